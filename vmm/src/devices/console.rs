//! The console device (virtio 1.3 §5.3) with one port. The guest's output goes to a writer; its input comes from a
//! descriptor of the host.

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
use vm_memory::GuestMemoryMmap;

use super::chain::{Direction, Malformed, pieces};
use super::counters::Counters;
use super::queue::{ServedQueue, interrupt};
use super::span::Span;
use super::{DeviceError, DeviceQueues, VirtioDevice};

/// The receive queue: input for the guest.
const RX: usize = 0;
/// The transmit queue: output of the guest.
const TX: usize = 1;
const QUEUE_SIZES: [u16; 2] = [64, 64];
/// Most bytes of output taken in one call. The next call takes the rest, so that a noisy guest cannot occupy the
/// thread.
const MAX_CALL_BYTES: usize = 256 * 1024;
/// Bytes copied between guest memory and the host at once.
const COPY_BYTES: usize = 4096;

const INPUT: u64 = 0;
const AGAIN: u64 = 1;

/// Counters of a console device.
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
    /// The last write failed. Only the first failure in a row is logged.
    output_failed: bool,
    input: Option<OwnedFd>,
    /// Watches the input, one event at a time: it is armed only while the guest has a buffer for input.
    epoll: Epoll,
    /// Readable while output is left over from a call that took [`MAX_CALL_BYTES`].
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
    /// or socket. The input may be blocking; it is read only when it is readable. When it ends, the console lives on.
    ///
    /// # Errors
    /// epoll cannot wait for `input`, as for a regular file, or the system has no descriptor left.
    pub fn new(output: Box<dyn Write + Send>, input: Option<OwnedFd>) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let again = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        epoll.add(&again, EpollEvent::new(EpollFlags::EPOLLIN, AGAIN))?;
        if let Some(input) = &input {
            // The first notification of the receive queue arms it.
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
        let mut queue = ServedQueue::of(TX, queues, &memory);
        let (mut taken, mut buffer, mut used) = (0, Vec::new(), false);
        queue.stop_notifications()?;
        loop {
            if taken >= MAX_CALL_BYTES {
                // Fails only if the counter is full; the descriptor is readable then.
                let _ = self.again.write(1);
                break;
            }
            let Some(chain) = queue.next()? else { break };
            let head = chain.head_index();
            buffer.clear();
            let bytes = pieces(&memory, chain, Direction::FromGuest, &mut buffer).map_err(|error| error.on(TX))?;
            if bytes > MAX_CALL_BYTES {
                return Err(Malformed(format!("{bytes} bytes of console output at once")).on(TX));
            }
            self.write_out(Span::new(&buffer));
            queue.add_used(head, 0)?;
            taken += bytes.max(1);
            used = true;
        }
        if used {
            // People read the log while the guest runs. An error here will be the error of the next write as well.
            let _ = self.output.flush();
            interrupt(TX, queues, &memory)?;
        }
        Ok(())
    }

    /// Fills one buffer of the guest with input, if there is a buffer.
    fn serve_input(&mut self, queues: &mut dyn DeviceQueues) -> Result<(), DeviceError> {
        let Some(input) = &self.input else { return Ok(()) };
        if !queues.queue(RX).ready() {
            return Ok(());
        }
        let memory: GuestMemoryMmap = queues.memory().clone();
        let mut queue = ServedQueue::of(RX, queues, &memory);
        let Some(chain) = queue.pop()? else {
            if queue.await_notification()? {
                // A buffer has arrived: the input is still readable and will be reported again.
                self.arm()?;
            }
            // Otherwise the driver's next notification arms it.
            return Ok(());
        };
        let head = chain.head_index();
        let mut buffer = Vec::new();
        let room = pieces(&memory, chain, Direction::ToGuest, &mut buffer).map_err(|error| error.on(RX))?;
        if room == 0 {
            return Err(Malformed("an input buffer of no bytes".into()).on(RX));
        }
        let mut copy = [0; COPY_BYTES];
        // The input is readable, so this does not block, whatever the descriptor's mode.
        match nix::unistd::read(input, &mut copy[..room.min(COPY_BYTES)]) {
            Ok(0) => {
                queue.put_back(1);
                tracing::debug!(descriptor = input.as_raw_fd(), "the console's input has ended");
                self.input = None;
            }
            Ok(bytes) => {
                Span::new(&buffer).copy_from(&copy[..bytes]);
                queue.add_used(head, bytes as u32)?;
                self.statistics.input.fetch_add(bytes as u64, Ordering::Relaxed);
                interrupt(RX, queues, &memory)?;
                self.arm()?;
            }
            Err(Errno::EAGAIN | Errno::EINTR) => {
                queue.put_back(1);
                self.arm()?;
            }
            Err(error) => {
                queue.put_back(1);
                tracing::warn!(%error, "the console's input cannot be read; the guest gets no more of it");
                self.input = None;
            }
        }
        Ok(())
    }

    /// Writes `output` of the guest to the host. Output that cannot be written is lost: a full disk must not stop the
    /// guest.
    fn write_out(&mut self, mut output: Span<'_, '_>) {
        let mut copy = [0; COPY_BYTES];
        while !output.is_empty() {
            let bytes = output.copy_to(&mut copy);
            output = output.after(bytes);
            let result = self.output.write_all(&copy[..bytes]);
            let counter = if result.is_ok() { &self.statistics.output } else { &self.statistics.lost };
            counter.fetch_add(bytes as u64, Ordering::Relaxed);
            if let Err(error) = &result
                && !self.output_failed
            {
                tracing::warn!(%error, "console output of the guest is being lost");
            }
            self.output_failed = result.is_err();
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
                // Fails only if an earlier call has read it.
                let _ = self.again.read();
                self.serve_output(queues)?;
            } else {
                self.serve_input(queues)?;
            }
        }
        Ok(())
    }

    fn reset(&mut self) {
        // The input stays disarmed, or fires once without a queue; the next driver's first notification arms it.
        let _ = self.again.read();
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::sync::Mutex;

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;
    use crate::devices::tests::queues::{Descriptor, TestQueues};

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
