//! The entropy device (virtio 1.3 §5.4): fills the guest's buffers from the host's random number generator.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};
use virtio_bindings::bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_queue::QueueT;

use super::chain::{Direction, Malformed, pieces};
use super::counters::Counters;
use super::queue::{ServedQueue, interrupt};
use super::span::Slice;
use super::{DeviceError, DeviceQueues, VirtioDevice};

const QUEUE_SIZES: [u16; 1] = [64];
/// Most bytes written to one buffer, however large it is: the driver asks again for more.
const MAX_BUFFER_BYTES: usize = 64 * 1024;
/// Most bytes written in one call. The next call writes the rest, so that a greedy guest cannot occupy the thread.
const MAX_CALL_BYTES: usize = 256 * 1024;

/// Counters of an entropy device.
#[derive(Debug, Default)]
pub struct RngStatistics {
    bytes: AtomicU64,
    buffers: AtomicU64,
}

impl Counters for RngStatistics {
    fn snapshot(&self) -> Vec<(&'static str, u64)> {
        vec![("bytes", self.bytes.load(Ordering::Relaxed)), ("buffers", self.buffers.load(Ordering::Relaxed))]
    }
}

/// An entropy device.
#[derive(Debug)]
pub struct RngDevice {
    /// Readable while buffers are left over from a call that wrote [`MAX_CALL_BYTES`].
    again: EventFd,
    statistics: Arc<RngStatistics>,
}

impl RngDevice {
    /// An entropy device.
    ///
    /// # Errors
    /// The system has no descriptor left.
    pub fn new() -> io::Result<Self> {
        let again = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        Ok(Self { again, statistics: Arc::default() })
    }

    /// The device's counters, for any thread.
    pub fn statistics(&self) -> Arc<RngStatistics> {
        Arc::clone(&self.statistics)
    }

    fn serve(&self, queues: &mut dyn DeviceQueues) -> Result<(), DeviceError> {
        if !queues.queue(0).ready() {
            return Ok(());
        }
        let memory = queues.memory().clone();
        let mut queue = ServedQueue::of(0, queues, &memory);
        let (mut given, mut buffer) = (0, Vec::new());
        let mut used = false;
        queue.stop_notifications()?;
        loop {
            if given >= MAX_CALL_BYTES {
                // Fails only if the counter is full; the descriptor is readable then.
                let _ = self.again.write(1);
                break;
            }
            let Some(chain) = queue.next()? else { break };
            let head = chain.head_index();
            buffer.clear();
            let room = pieces(&memory, chain, Direction::ToGuest, &mut buffer).map_err(|error| error.on(0))?;
            if room == 0 {
                return Err(Malformed("an entropy buffer of no bytes".into()).on(0));
            }
            let written = fill(&buffer, room.min(MAX_BUFFER_BYTES))
                .map_err(|source| DeviceError::Host { action: "getrandom for the guest".into(), source })?;
            queue.add_used(head, written as u32)?;
            self.statistics.bytes.fetch_add(written as u64, Ordering::Relaxed);
            self.statistics.buffers.fetch_add(1, Ordering::Relaxed);
            given += written;
            used = true;
        }
        if used {
            interrupt(0, queues, &memory)?;
        }
        Ok(())
    }
}

/// Writes up to `limit` random bytes to `pieces`; returns how many it wrote.
fn fill(pieces: &[Slice<'_>], limit: usize) -> io::Result<usize> {
    let mut left = limit;
    for piece in pieces {
        let mut done = 0;
        let wanted = piece.len().min(left);
        while done < wanted {
            // SAFETY: `done..wanted` lies within the piece, guest memory that is mapped for as long as `piece` lives.
            // The kernel writes it and no reference to it exists; the guest may read it at the same time.
            let got = unsafe {
                let start = piece.ptr_guard_mut().as_ptr().add(done);
                libc::getrandom(start.cast(), wanted - done, 0)
            };
            match Errno::result(got) {
                Ok(bytes) => done += bytes.cast_unsigned(),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        left -= wanted;
        if left == 0 {
            break;
        }
    }
    Ok(limit - left)
}

impl VirtioDevice for RngDevice {
    fn device_type(&self) -> u32 {
        4
    }

    fn offered_features(&self) -> u64 {
        1 << VIRTIO_F_VERSION_1
    }

    fn acknowledge_features(&mut self, _features: u64) {}

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn read_config(&self, _offset: u64, data: &mut [u8]) {
        // The entropy device has no configuration space (virtio 1.3 §5.4.4).
        data.fill(0);
    }

    fn queue_kicked(&mut self, _index: usize, queues: &mut dyn DeviceQueues) -> Result<(), DeviceError> {
        self.serve(queues)
    }

    fn host_event_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.again.as_fd())
    }

    fn host_event(&mut self, queues: &mut dyn DeviceQueues) -> Result<(), DeviceError> {
        // Fails only if an earlier call has read it.
        let _ = self.again.read();
        self.serve(queues)
    }

    fn reset(&mut self) {
        let _ = self.again.read();
    }
}

#[cfg(test)]
mod tests {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;
    use crate::devices::tests::queues::{Descriptor, TestQueues};

    fn counter(device: &RngDevice, name: &str) -> u64 {
        device.statistics().snapshot().into_iter().find(|(key, _)| *key == name).unwrap().1
    }

    #[test]
    fn every_buffer_is_filled_with_bytes_that_differ() {
        let mut device = RngDevice::new().unwrap();
        let mut queues = TestQueues::new(&[64]);
        let first = queues.add(0, &[Descriptor::writable(64), Descriptor::writable(1)]);
        let second = queues.add(0, &[Descriptor::writable(64)]);
        device.queue_kicked(0, &mut queues).unwrap();
        assert_eq!(queues.used(0), [(first, 65), (second, 64)]);
        let (one, two) = (queues.read(first, 65), queues.read(second, 64));
        assert_ne!(one[..64], two[..]);
        assert!(one.iter().any(|byte| *byte != one[0]));
        assert_eq!(queues.signals(0), 1, "one interrupt for the batch");
        assert_eq!((counter(&device, "bytes"), counter(&device, "buffers")), (129, 2));
    }

    #[test]
    fn a_greedy_guest_is_served_in_portions() {
        let mut device = RngDevice::new().unwrap();
        let mut queues = TestQueues::new(&[64]);
        for _ in 0..10 {
            queues.add(0, &[Descriptor::writable(200 * 1024)]);
        }
        device.queue_kicked(0, &mut queues).unwrap();
        assert_eq!(queues.used(0).len(), 4);
        let readable = |device: &RngDevice| {
            poll(&mut [PollFd::new(device.host_event_fd().unwrap(), PollFlags::POLLIN)], PollTimeout::ZERO).unwrap() > 0
        };
        while readable(&device) {
            device.host_event(&mut queues).unwrap();
        }
        let used = queues.used(0);
        assert_eq!(used.len(), 10);
        assert!(used.iter().all(|(_, bytes)| *bytes == 64 * 1024));
    }

    #[test]
    fn a_buffer_the_device_may_not_write_is_the_guests_fault() {
        for descriptors in [
            vec![Descriptor::readable(64)],
            vec![Descriptor::writable(0)],
            vec![Descriptor { address: Some(u64::MAX - 10), ..Descriptor::writable(64) }],
        ] {
            let mut device = RngDevice::new().unwrap();
            let mut queues = TestQueues::new(&[64]);
            queues.add(0, &descriptors);
            let error = device.queue_kicked(0, &mut queues).unwrap_err();
            assert!(matches!(error, DeviceError::Guest { queue: 0, .. }), "{error}");
        }
    }

    #[test]
    fn a_queue_that_is_not_set_up_is_left_alone() {
        let mut device = RngDevice::new().unwrap();
        let mut queues = TestQueues::new(&[64]);
        queues.queue(0).set_ready(false);
        device.queue_kicked(0, &mut queues).unwrap();
        assert_eq!(queues.used(0), []);
    }
}
