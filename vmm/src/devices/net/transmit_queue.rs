//! A transmit queue: frames from the guest.

use std::time::{Duration, Instant};

use virtio_queue::QueueT;
use vm_memory::GuestMemoryMmap;

use super::header::HEADER_BYTES;
use super::unsignalled::{SMALL_BYTES, Unsignalled};
use super::{BUDGET, MAX_FRAME_BYTES};
use crate::devices::chain::{Direction, Malformed, pieces};
use crate::devices::queue::ServedQueue;
use crate::devices::span::Span;
use crate::devices::{DeviceError, DeviceQueues};

/// For small frames that were sent, the guest is interrupted only when they are this many, or when one has waited this
/// long. All it does then is to free their memory, and Linux also does that at each interrupt for received frames: a
/// question and its answer cost one interrupt instead of two.
pub(super) const MAX_SENT: usize = 64;
const SENT_WAIT: Duration = Duration::from_millis(1);

/// A queue of frames from the guest.
#[derive(Debug)]
pub(super) struct TransmitQueue {
    index: usize,
    /// It may hold frames that are not taken yet.
    due: bool,
    sent: Unsignalled,
}

impl TransmitQueue {
    pub(super) fn new(index: usize) -> Self {
        Self { index, due: false, sent: Unsignalled::default() }
    }

    /// Its index among the device's queues.
    pub(super) fn index(&self) -> usize {
        self.index
    }

    /// The driver has notified the device of frames.
    pub(super) fn set_due(&mut self) {
        self.due = true;
    }

    /// Whether it is set up and may hold frames.
    pub(super) fn is_due(&self, queues: &mut dyn DeviceQueues) -> bool {
        self.due && queues.queue(self.index).ready()
    }

    /// When the guest is to be interrupted for frames that were taken.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.sent.due
    }

    /// Hands every frame to `hand_over`, header included, until the queue is empty or the budget is spent. Returns how
    /// many.
    pub(super) fn take_frames(
        &mut self,
        queues: &mut dyn DeviceQueues,
        memory: &GuestMemoryMmap,
        now: Instant,
        mut hand_over: impl FnMut(Span<'_, '_>),
    ) -> Result<usize, DeviceError> {
        let mut queue = ServedQueue::of(self.index, queues, memory);
        let (mut done, mut large, mut parts) = (0, false, Vec::new());
        queue.stop_notifications()?;
        while done < BUDGET {
            let Some(chain) = queue.next()? else {
                self.due = false;
                break;
            };
            let head = chain.head_index();
            parts.clear();
            let total = pieces(memory, chain, Direction::FromGuest, &mut parts)
                .and_then(check_length)
                .map_err(|error| error.on(self.index))?;
            large |= total > SMALL_BYTES;
            hand_over(Span::new(&parts));
            queue.add_used(head, 0)?;
            done += 1;
        }
        self.sent.buffers += done;
        if large || self.sent.buffers >= MAX_SENT {
            self.sent.signal(self.index, queues, memory)?;
        } else if done > 0 {
            self.sent.due.get_or_insert(now + SENT_WAIT);
        }
        Ok(done)
    }

    /// Interrupts the guest for frames that were taken, if it is time.
    pub(super) fn interrupt_if_due(
        &mut self,
        queues: &mut dyn DeviceQueues,
        memory: &GuestMemoryMmap,
        now: Instant,
    ) -> Result<(), DeviceError> {
        if self.sent.is_due(now) {
            self.sent.signal(self.index, queues, memory)?;
        }
        Ok(())
    }
}

/// Checks the length of a frame with its header, in bytes.
fn check_length(total: usize) -> Result<usize, Malformed> {
    if total < HEADER_BYTES {
        return Err(Malformed(format!("a frame of {total} bytes, less than its header")));
    }
    if total > HEADER_BYTES + MAX_FRAME_BYTES {
        return Err(Malformed(format!("a frame of {total} bytes, more than a packet can have")));
    }
    Ok(total)
}
