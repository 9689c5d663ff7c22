//! The console device (virtio 1.3 §5.3), one port: what the guest writes goes to a writer, what a descriptor of the
//! host delivers goes to the guest.

use std::fmt;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use virtio_bindings::bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_queue::QueueT;
use vm_memory::{Bytes, GuestMemoryMmap};

use super::counters::Counters;
use super::queue::{Direction, Malformed, broken, interrupt, pieces, pop};
use super::{DeviceError, DeviceQueues, VirtioDevice};

/// Queue of the guest's input.
const RX: usize = 0;
/// Queue of the guest's output.
const TX: usize = 1;
const QUEUE_SIZES: [u16; 2] = [64, 64];
/// Bytes of output taken in one call; the rest comes in the next, so that a noisy guest cannot hold the thread.
const MAX_CALL_BYTES: usize = 256 * 1024;
/// Bytes moved between guest memory and the host at once.
const COPY_BYTES: usize = 4096;

const INPUT: u64 = 0;
const AGAIN: u64 = 1;

/// What the console device has carried.
#[derive(Debug, Default)]
pub struct ConsoleStatistics {
    output: AtomicU64,
    lost: AtomicU64,
    input: AtomicU64,
}

impl Counters for ConsoleStatistics {
    fn snapshot(&self) -> Vec<(&'static str, u64)> {
        [("output_bytes", &self.output), ("lost_bytes", &self.lost), ("input_bytes", &self.input)]
            .into_iter()
            .map(|(name, counter)| (name, counter.load(Ordering::Relaxed)))
            .collect()
    }
}

/// A console with one port.
pub struct ConsoleDevice {
    output: Box<dyn Write + Send>,
    /// The last write failed; the log says so once.
    output_failed: bool,
    input: Option<OwnedFd>,
    /// Watches the input, one event at a time: it is armed only while the guest has a buffer for what comes.
    epoll: Epoll,
    /// Readable while output waits that one call was too short for.
    again: EventFd,
    statistics: Arc<ConsoleStatistics>,
}

impl fmt::Debug for ConsoleDevice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ConsoleDevice").field("input", &self.input).finish_non_exhaustive()
    }
}

impl ConsoleDevice {
    /// A console that writes to `output`, which should not block for long, and reads from `input`: a terminal, pipe
    /// or socket. The input may be blocking; it is read only when it has something. Its end is the end of input, not
    /// of the console.
    ///
    /// Fails if `input` cannot be waited for, as a regular file cannot, or if descriptors run out.
    pub fn new(output: Box<dyn Write + Send>, input: Option<OwnedFd>) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let again = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        epoll.add(&again, EpollEvent::new(EpollFlags::EPOLLIN, AGAIN))?;
        if let Some(input) = &input {
            // Armed by the first kick of the rx queue.
            epoll.add(input, EpollEvent::new(EpollFlags::EPOLLONESHOT, INPUT))?;
        }
        Ok(Self { output, output_failed: false, input, epoll, again, statistics: Arc::default() })
    }

    /// The device's counters, for any thread.
    pub fn statistics(&self) -> Arc<ConsoleStatistics> {
        Arc::clone(&self.statistics)
    }

    fn arm(&self) -> Result<(), DeviceError> {
        let Some(input) = &self.input else { return Ok(()) };
        let mut event = EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLONESHOT, INPUT);
        self.epoll.modify(input, &mut event).map_err(|error| DeviceError::Host {
            action: "waiting for input of the console".into(),
            source: error.into(),
        })
    }

    /// Takes the guest's output.
    fn serve_output(&mut self, queues: &mut dyn DeviceQueues) -> Result<(), DeviceError> {
        if !queues.queue(TX).ready() {
            return Ok(());
        }
        let memory = queues.memory().clone();
        let queue = queues.queue(TX);
        let (mut taken, mut buffer, mut used) = (0, Vec::new(), false);
        queue.disable_notification(&memory).map_err(|error| broken(TX, &error))?;
        loop {
            if taken >= MAX_CALL_BYTES {
                // Fails only if the counter is full, and then it is readable anyway.
                let _ = self.again.write(1);
                break;
            }
            let Some(chain) = pop(TX, queue, &memory)? else {
                if queue.enable_notification(&memory).map_err(|error| broken(TX, &error))? {
                    queue.disable_notification(&memory).map_err(|error| broken(TX, &error))?;
                    continue;
                }
                break;
            };
            let head = chain.head_index();
            buffer.clear();
            let bytes = pieces(&memory, chain, Direction::FromGuest, &mut buffer).map_err(|error| error.on(TX))?;
            if bytes > MAX_CALL_BYTES {
                let reason = format!("{bytes} bytes of console output at once");
                return Err(DeviceError::Guest { queue: TX, reason });
            }
            for piece in &buffer {
                let mut copy = [0; COPY_BYTES];
                let mut offset = 0;
                while offset < piece.len() {
                    let part = COPY_BYTES.min(piece.len() - offset);
                    piece
                        .read_slice(&mut copy[..part], offset)
                        .map_err(|error| DeviceError::Guest { queue: TX, reason: error.to_string() })?;
                    write_out(&mut *self.output, &mut self.output_failed, &self.statistics, &copy[..part]);
                    offset += part;
                }
            }
            queue.add_used(&memory, head, 0).map_err(|error| broken(TX, &error))?;
            taken += bytes.max(1);
            used = true;
        }
        if used {
            // A log is looked at while the guest runs; an error is that of the next write as well.
            let _ = self.output.flush();
            interrupt(TX, queues, &memory)?;
        }
        Ok(())
    }

    /// Gives the guest one buffer of input, if there are both.
    fn serve_input(&mut self, queues: &mut dyn DeviceQueues) -> Result<(), DeviceError> {
        let Some(input) = &self.input else { return Ok(()) };
        if !queues.queue(RX).ready() {
            return Ok(());
        }
        let memory: GuestMemoryMmap = queues.memory().clone();
        let queue = queues.queue(RX);
        let Some(chain) = pop(RX, queue, &memory)? else {
            if queue.enable_notification(&memory).map_err(|error| broken(RX, &error))? {
                // A buffer has just come: the input is still readable and will say so again.
                self.arm()?;
            }
            // Otherwise the next kick arms.
            return Ok(());
        };
        let head = chain.head_index();
        let mut buffer = Vec::new();
        let room = pieces(&memory, chain, Direction::ToGuest, &mut buffer).map_err(|error| error.on(RX))?;
        if room == 0 {
            return Err(Malformed("an input buffer of no bytes".into()).on(RX));
        }
        let mut copy = [0; COPY_BYTES];
        // Readable, so this does not block, whatever the descriptor's mode.
        match nix::unistd::read(input, &mut copy[..room.min(COPY_BYTES)]) {
            Ok(0) => {
                queue.set_next_avail(queue.next_avail().wrapping_sub(1));
                tracing::debug!(descriptor = input.as_raw_fd(), "the console's input has ended");
                self.input = None;
            }
            Ok(bytes) => {
                let mut written = 0;
                for piece in &buffer {
                    let part = piece.len().min(bytes - written);
                    piece
                        .write_slice(&copy[written..written + part], 0)
                        .map_err(|error| DeviceError::Guest { queue: RX, reason: error.to_string() })?;
                    written += part;
                }
                queue.add_used(&memory, head, bytes as u32).map_err(|error| broken(RX, &error))?;
                self.statistics.input.fetch_add(bytes as u64, Ordering::Relaxed);
                interrupt(RX, queues, &memory)?;
                self.arm()?;
            }
            Err(Errno::EAGAIN | Errno::EINTR) => {
                queue.set_next_avail(queue.next_avail().wrapping_sub(1));
                self.arm()?;
            }
            Err(error) => {
                queue.set_next_avail(queue.next_avail().wrapping_sub(1));
                tracing::warn!(%error, "the console's input cannot be read; the guest gets no more of it");
                self.input = None;
            }
        }
        Ok(())
    }
}

/// Writes to the host. Output that cannot be written is lost: a full disk must not stop the guest.
fn write_out(output: &mut dyn Write, failed: &mut bool, statistics: &ConsoleStatistics, bytes: &[u8]) {
    match output.write_all(bytes) {
        Ok(()) => {
            *failed = false;
            statistics.output.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
        Err(error) => {
            statistics.lost.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            if !*failed {
                tracing::warn!(%error, "console output of the guest is being lost");
            }
            *failed = true;
        }
    }
}

impl VirtioDevice for ConsoleDevice {
    fn device_type(&self) -> u32 {
        3
    }

    fn offered_features(&self) -> u64 {
        1 << VIRTIO_F_VERSION_1
    }

    fn acknowledge_features(&mut self, _features: u64) {}

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn read_config(&self, _offset: u64, data: &mut [u8]) {
        // Every field belongs to a feature that is not offered (virtio 1.3 §5.3.4).
        data.fill(0);
    }

    fn queue_kicked(&mut self, index: usize, queues: &mut dyn DeviceQueues) -> Result<(), DeviceError> {
        if index == RX { self.arm() } else { self.serve_output(queues) }
    }

    fn host_event_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.epoll.0.as_fd())
    }

    fn host_event(&mut self, queues: &mut dyn DeviceQueues) -> Result<(), DeviceError> {
        let mut space = [EpollEvent::empty(); 2];
        let count = match self.epoll.wait(&mut space, EpollTimeout::ZERO) {
            Ok(count) => count,
            Err(Errno::EINTR) => 0,
            Err(error) => {
                let action = "waiting for events of the console".into();
                return Err(DeviceError::Host { action, source: error.into() });
            }
        };
        for event in &space[..count] {
            if event.data() == AGAIN {
                // Fails only if it was read already.
                let _ = self.again.read();
                self.serve_output(queues)?;
            } else {
                self.serve_input(queues)?;
            }
        }
        Ok(())
    }

    fn reset(&mut self) {
        // The input stays disarmed or fires once without a queue; the next driver's first kick arms it.
        let _ = self.again.read();
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::sync::Mutex;

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;
    use crate::devices::test_queues::{Descriptor, TestQueues};

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Full;

    impl Write for Full {
        fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
            Err(Errno::ENOSPC.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn readable(device: &ConsoleDevice) -> bool {
        poll(&mut [PollFd::new(device.host_event_fd().unwrap(), PollFlags::POLLIN)], PollTimeout::ZERO).unwrap() > 0
    }

    fn counter(device: &ConsoleDevice, name: &str) -> u64 {
        device.statistics().snapshot().into_iter().find(|(key, _)| *key == name).unwrap().1
    }

    #[test]
    fn output_reaches_the_writer_in_order() {
        let log = Log::default();
        let mut device = ConsoleDevice::new(Box::new(log.clone()), None).unwrap();
        let mut queues = TestQueues::new(&[64, 64]);
        queues.add_with(TX, &[Descriptor::readable(6), Descriptor::readable(5)], b"hello world");
        let big: Vec<u8> = (0..10_000_u32).map(|n| n as u8).collect();
        queues.add_with(TX, &[Descriptor::readable(10_000)], &big);
        device.queue_kicked(TX, &mut queues).unwrap();
        let written = log.0.lock().unwrap().clone();
        assert_eq!(written[..11], b"hello world"[..]);
        assert_eq!(written[11..], big);
        assert_eq!(queues.used(TX).len(), 2);
        assert_eq!((queues.signals(TX), counter(&device, "output_bytes")), (1, 10_011));
    }

    #[test]
    fn a_writer_that_fails_loses_output_but_not_the_guest() {
        let mut device = ConsoleDevice::new(Box::new(Full), None).unwrap();
        let mut queues = TestQueues::new(&[64, 64]);
        queues.add_with(TX, &[Descriptor::readable(4)], b"gone");
        device.queue_kicked(TX, &mut queues).unwrap();
        assert_eq!(queues.used(TX).len(), 1);
        assert_eq!((counter(&device, "lost_bytes"), counter(&device, "output_bytes")), (4, 0));
    }

    #[test]
    fn a_noisy_guest_is_served_in_portions() {
        let log = Log::default();
        let mut device = ConsoleDevice::new(Box::new(log.clone()), None).unwrap();
        let mut queues = TestQueues::new(&[64, 64]);
        for _ in 0..8 {
            queues.add(TX, &[Descriptor::readable(100_000)]);
        }
        device.queue_kicked(TX, &mut queues).unwrap();
        assert_eq!(queues.used(TX).len(), 3);
        while readable(&device) {
            device.host_event(&mut queues).unwrap();
        }
        assert_eq!(log.0.lock().unwrap().len(), 800_000);
    }

    #[test]
    fn input_reaches_the_guest_and_waits_for_its_buffers() {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let mut device = ConsoleDevice::new(Box::new(io::sink()), Some(theirs.into())).unwrap();
        let mut queues = TestQueues::new(&[64, 64]);
        ours.write_all(b"ls\ncd\n").unwrap();
        assert!(!readable(&device), "no buffer was announced");
        device.queue_kicked(RX, &mut queues).unwrap();
        assert!(readable(&device));
        device.host_event(&mut queues).unwrap();
        assert!(!readable(&device), "without a buffer it must not spin");
        let first = queues.add(RX, &[Descriptor::writable(1), Descriptor::writable(2)]);
        let second = queues.add(RX, &[Descriptor::writable(100)]);
        device.queue_kicked(RX, &mut queues).unwrap();
        while readable(&device) {
            device.host_event(&mut queues).unwrap();
        }
        assert_eq!(queues.used(RX), [(first, 3), (second, 3)]);
        assert_eq!((queues.read(first, 3), queues.read(second, 3)), (b"ls\n".to_vec(), b"cd\n".to_vec()));
        assert_eq!(counter(&device, "input_bytes"), 6);
    }

    #[test]
    fn the_end_of_input_leaves_the_console_writing() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let log = Log::default();
        let mut device = ConsoleDevice::new(Box::new(log.clone()), Some(theirs.into())).unwrap();
        let mut queues = TestQueues::new(&[64, 64]);
        queues.add(RX, &[Descriptor::writable(100)]);
        drop(ours);
        device.queue_kicked(RX, &mut queues).unwrap();
        device.host_event(&mut queues).unwrap();
        assert!(!readable(&device));
        assert_eq!(queues.used(RX), []);
        queues.add_with(TX, &[Descriptor::readable(5)], b"alive");
        device.queue_kicked(TX, &mut queues).unwrap();
        assert_eq!(*log.0.lock().unwrap(), b"alive");
    }

    #[test]
    fn chains_of_the_wrong_kind_are_the_guests_fault() {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let mut device = ConsoleDevice::new(Box::new(io::sink()), Some(theirs.into())).unwrap();
        let mut queues = TestQueues::new(&[64, 64]);
        queues.add(TX, &[Descriptor::writable(5)]);
        assert!(matches!(device.queue_kicked(TX, &mut queues), Err(DeviceError::Guest { queue: TX, .. })));
        queues.add(RX, &[Descriptor::readable(5)]);
        ours.write_all(b"x").unwrap();
        device.queue_kicked(RX, &mut queues).unwrap();
        assert!(matches!(device.host_event(&mut queues), Err(DeviceError::Guest { queue: RX, .. })));
    }
}
