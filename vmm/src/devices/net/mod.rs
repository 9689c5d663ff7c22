//! The network device (virtio 1.3 §5.1): one pair of queues, whole 64 KiB segments, checksums left out where both sides agree.
//!
//! - [`backend`] is the network behind the device, [`header`] what precedes a frame in a queue: values only.
//! - This file is the device: queues, notifications, configuration space.
//!
//! Frames stay in the guest's memory: the backend reads and writes them there. It is asked for frames only when the guest has buffers
//! for them.

pub mod backend;
mod header;
mod stats;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use virtio_bindings::bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_ids::VIRTIO_ID_NET;
use virtio_bindings::virtio_net::{
    VIRTIO_NET_F_CSUM, VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_GUEST_TSO6,
    VIRTIO_NET_F_GUEST_USO4, VIRTIO_NET_F_GUEST_USO6, VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6,
    VIRTIO_NET_F_HOST_USO, VIRTIO_NET_F_MAC, VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_F_MTU,
};
use virtio_queue::QueueT;
use vm_memory::GuestMemoryMmap;

use self::backend::{Accepts, Backend, Offload, Segmentation, Transmit};
use self::header::HEADER_BYTES;
pub use self::stats::NetStatistics;
use self::stats::add;
use super::counters::Counters;
use super::queue::{Direction, Malformed, Slice, broken, interrupt_wanted, pieces, pop};
use super::{DeviceError, DeviceQueues, VirtioDevice};
use crate::net::tcp::Span;

/// Queue of frames for the guest.
const RX: usize = 0;
/// Queue of frames from the guest.
const TX: usize = 1;
/// User Mode Linux takes no more than 256.
const QUEUE_SIZES: [u16; 2] = [256, 256];
/// Frames handled per call and direction, so that neither direction starves the other.
const BUDGET: usize = 256;
/// The guest hears of filled buffers at the latest after so many, and works on them while we fill the next.
const SIGNAL_AFTER: usize = 16;
/// Longest frame either way: an IP packet of 65,535 bytes and its Ethernet header.
pub const FRAME_BYTES_MAX: usize = 65_535 + ETHERNET_BYTES;
/// Bytes of an Ethernet header.
const ETHERNET_BYTES: usize = 14;

/// What the device tells the guest about itself.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The guest's hardware address.
    pub mac: [u8; 6],
    /// Longest IP packet of the link, in bytes.
    pub mtu: u16,
}

/// A frame of the guest up to this long is small: it is a request or an acknowledgment, and no buffer of many bytes waits for its end.
const SMALL_BYTES: usize = 2048;
/// For small frames that were sent, the guest is interrupted only when they are this many, or some have waited this long. All it does then is to
/// free their memory, and Linux does that at each interrupt for received frames too: what asks and is answered has one interrupt instead of two.
const SENT_MAX: usize = 64;
const SENT_WAIT: Duration = Duration::from_millis(1);

/// For small frames the guest is interrupted no more often than this: a flood of datagrams would leave it no time for who reads them.
const RECEIVED_WAIT: Duration = Duration::from_micros(50);
/// Room for the next frame for the guest: all, or half as much after each that did with less, but never less than this. Buffers that are not
/// needed cost time to take and to put back.
const ROOM_MIN: usize = 4096;
const ROOM_MAX: usize = HEADER_BYTES + FRAME_BYTES_MAX;

/// A network device.
pub struct NetDevice {
    settings: Settings,
    features: u64,
    backend: Box<dyn Backend>,
    statistics: Arc<NetStatistics>,
    /// The tx queue may hold frames that were not taken yet.
    tx_due: bool,
    /// Frames of the guest that were taken.
    sent: Untold,
    /// Frames for the guest.
    received: Untold,
    /// When the guest was last interrupted for frames it received.
    told: Option<Instant>,
    /// Room to have at hand for the next frame for the guest, in bytes.
    room: usize,
}

/// Buffers of one queue that the guest has not been interrupted for.
#[derive(Debug, Default)]
struct Untold {
    buffers: usize,
    /// When it is to be interrupted.
    due: Option<Instant>,
}

impl NetDevice {
    /// A device that leads to `backend`, whose counters are `behind`.
    pub fn new(settings: Settings, backend: Box<dyn Backend>, behind: Option<Arc<dyn Counters>>) -> Self {
        Self {
            settings,
            features: 0,
            backend,
            statistics: Arc::new(NetStatistics::with(behind)),
            tx_due: false,
            sent: Untold::default(),
            received: Untold::default(),
            told: None,
            room: ROOM_MIN,
        }
    }

    /// The device's counters, for any thread.
    pub fn statistics(&self) -> Arc<NetStatistics> {
        Arc::clone(&self.statistics)
    }

    fn has(&self, feature: u32) -> bool {
        self.features & 1 << feature != 0
    }

    /// Works on both queues until nothing is left, or enough was done for one call.
    fn serve(&mut self, queues: &mut dyn DeviceQueues) -> Result<(), DeviceError> {
        let memory = queues.memory().clone();
        let now = Instant::now();
        let mut left = self.take_frames(queues, &memory, now)?;
        left |= self.give_frames(queues, &memory, now)?;
        if left {
            self.backend.call_again();
        }
        let over = |untold: &Untold| untold.due.is_some_and(|due| due <= now);
        if over(&self.sent) {
            self.signal_sent(queues, &memory)?;
        }
        if over(&self.received) {
            self.signal_received(queues, &memory, now)?;
        }
        self.backend.settle(now, [self.sent.due, self.received.due].into_iter().flatten().min());
        Ok(())
    }

    /// Interrupts the guest for the frames that were taken, if it still wants to hear of them.
    fn signal_sent(&mut self, queues: &mut dyn DeviceQueues, memory: &GuestMemoryMmap) -> Result<(), DeviceError> {
        self.sent = Untold::default();
        if interrupt_wanted(TX, queues.queue(TX), memory)? {
            queues.signal(TX);
        }
        Ok(())
    }

    /// Interrupts the guest for the frames it was given, if it wants to hear of them.
    fn signal_received(
        &mut self,
        queues: &mut dyn DeviceQueues,
        memory: &GuestMemoryMmap,
        now: Instant,
    ) -> Result<(), DeviceError> {
        self.received = Untold::default();
        if interrupt_wanted(RX, queues.queue(RX), memory)? {
            queues.signal(RX);
            self.told = Some(now);
        }
        Ok(())
    }

    /// Handles frames from the guest. Returns whether some are left for want of budget.
    fn take_frames(
        &mut self,
        queues: &mut dyn DeviceQueues,
        memory: &GuestMemoryMmap,
        now: Instant,
    ) -> Result<bool, DeviceError> {
        if !self.tx_due || !queues.queue(TX).ready() {
            return Ok(false);
        }
        let queue = queues.queue(TX);
        let (mut done, mut large) = (0, false);
        let mut parts = Vec::new();
        queue.disable_notification(memory).map_err(|error| broken(TX, &error))?;
        while done < BUDGET {
            let Some(chain) = pop(TX, queue, memory)? else {
                if queue.enable_notification(memory).map_err(|error| broken(TX, &error))? {
                    queue.disable_notification(memory).map_err(|error| broken(TX, &error))?;
                    continue;
                }
                self.tx_due = false;
                break;
            };
            let head = chain.head_index();
            parts.clear();
            let total = pieces(memory, chain, Direction::FromGuest, &mut parts).map_err(|error| error.on(TX))?;
            if total < HEADER_BYTES {
                return Err(Malformed(format!("a frame of {total} bytes, less than its header")).on(TX));
            }
            if total > HEADER_BYTES + FRAME_BYTES_MAX {
                return Err(Malformed(format!("a frame of {total} bytes, more than a packet can have")).on(TX));
            }
            large |= total > SMALL_BYTES;
            self.hand_over(Span::new(&parts), now);
            queue.add_used(memory, head, 0).map_err(|error| broken(TX, &error))?;
            done += 1;
        }
        self.sent.buffers += done;
        if large || self.sent.buffers >= SENT_MAX {
            self.signal_sent(queues, memory)?;
        } else if done > 0 {
            self.sent.due.get_or_insert(now + SENT_WAIT);
        }
        Ok(self.tx_due)
    }

    /// Gives the backend the frame behind its header.
    fn hand_over(&mut self, whole: Span<'_, '_>, now: Instant) {
        let mut header = [0; HEADER_BYTES];
        whole.copy_to(&mut header);
        let frame = whole.after(HEADER_BYTES);
        match header::decode(&header, frame.len()) {
            Some(offload) if frame.len() >= ETHERNET_BYTES => {
                add(&self.statistics.frames_from_guest, 1);
                add(&self.statistics.bytes_from_guest, frame.len());
                self.backend.receive(frame, &offload, now);
            }
            _ => add(&self.statistics.frames_dropped, 1),
        }
    }

    /// Fills receive buffers with what waits for the guest. Returns whether more waits for want of budget.
    fn give_frames(
        &mut self,
        queues: &mut dyn DeviceQueues,
        memory: &GuestMemoryMmap,
        now: Instant,
    ) -> Result<bool, DeviceError> {
        if !queues.queue(RX).ready() || !self.backend.has_frames() {
            return Ok(false);
        }
        let merged = self.has(VIRTIO_NET_F_MRG_RXBUF);
        let (mut done, mut large, mut starved) = (0, false, false);
        let mut buffers = Buffers::default();
        queues.queue(RX).disable_notification(memory).map_err(|error| broken(RX, &error))?;
        while done < BUDGET && self.backend.has_frames() {
            let queue = queues.queue(RX);
            let enough = buffers.collect(queue, memory, if merged { self.room } else { 1 })?;
            let room = Span::new(buffers.parts(merged)).after(HEADER_BYTES);
            let transmit = if room.is_empty() { Transmit::NeedsRoom } else { self.backend.transmit(room, now) };
            match transmit {
                Transmit::Nothing => {}
                Transmit::Frame(length, offload) => {
                    large |= length > SMALL_BYTES;
                    self.room = if length > self.room / 2 { ROOM_MAX } else { ROOM_MIN.max(self.room / 2) };
                    self.received.buffers += self.fill(queue, memory, &mut buffers, length, &offload)?;
                    done += 1;
                }
                Transmit::NeedsRoom if enough && merged && self.room < ROOM_MAX => self.room = ROOM_MAX,
                // A single buffer that is too small is used up with nothing in it (virtio 1.3 §5.1.6.3.1); a driver that cannot
                // merge buffers has larger ones.
                Transmit::NeedsRoom if enough => {
                    let Some((head, _)) = buffers.take() else { break };
                    add(&self.statistics.frames_dropped, 1);
                    queue.add_used(memory, head, 0).map_err(|error| broken(RX, &error))?;
                    done += 1;
                }
                Transmit::NeedsRoom => {
                    // The guest's next kick of this queue goes on here; until then the host's sockets are not read.
                    if queue.enable_notification(memory).map_err(|error| broken(RX, &error))? {
                        queue.disable_notification(memory).map_err(|error| broken(RX, &error))?;
                        continue;
                    }
                    add(&self.statistics.rx_starved, 1);
                    starved = true;
                    break;
                }
            }
            if self.received.buffers >= SIGNAL_AFTER {
                self.signal_received(queues, memory, now)?;
            }
        }
        let queue = queues.queue(RX);
        // What was not used is still the first in the available ring.
        queue.set_next_avail(queue.next_avail().wrapping_sub(buffers.len() as u16));
        if self.received.buffers > 0 {
            match self.told.map(|told| told + RECEIVED_WAIT) {
                Some(next) if next > now && !large && !starved => self.received.due = Some(next),
                _ => self.signal_received(queues, memory, now)?,
            }
        }
        Ok(!starved && self.backend.has_frames())
    }

    /// Gives the guest a frame of `length` bytes that lies in `buffers`, and returns how many of them it took.
    fn fill(
        &mut self,
        queue: &mut virtio_queue::Queue,
        memory: &GuestMemoryMmap,
        buffers: &mut Buffers<'_>,
        length: usize,
        offload: &Offload,
    ) -> Result<usize, DeviceError> {
        let total = HEADER_BYTES + length;
        let count = buffers.count_for(total);
        let span = Span::new(buffers.parts(true));
        let headers = headers_of(span.after(HEADER_BYTES), offload);
        span.copy_from(&header::encode(offload, headers, count as u16));
        let mut left = total;
        for _ in 0..count {
            let Some((head, room)) = buffers.take() else { break };
            let used = left.min(room);
            left -= used;
            queue.add_used(memory, head, used as u32).map_err(|error| broken(RX, &error))?;
        }
        add(&self.statistics.frames_to_guest, 1);
        add(&self.statistics.bytes_to_guest, length);
        Ok(count)
    }
}

/// Receive buffers taken from the queue and not used yet.
#[derive(Default)]
struct Buffers<'m> {
    parts: Vec<Slice<'m>>,
    /// Head, bytes, and number of parts of each.
    chains: VecDeque<(u16, usize, usize)>,
    bytes: usize,
    /// Parts of buffers that were used.
    used_parts: usize,
}

impl<'m> Buffers<'m> {
    fn len(&self) -> usize {
        self.chains.len()
    }

    /// Takes buffers from `queue` until they have `room` bytes in all. False when the guest has no more.
    fn collect(
        &mut self,
        queue: &mut virtio_queue::Queue,
        memory: &'m GuestMemoryMmap,
        room: usize,
    ) -> Result<bool, DeviceError> {
        self.parts.drain(..self.used_parts);
        self.used_parts = 0;
        while self.bytes < room {
            let Some(chain) = pop(RX, queue, memory)? else { return Ok(false) };
            let (head, before) = (chain.head_index(), self.parts.len());
            let bytes = pieces(memory, chain, Direction::ToGuest, &mut self.parts).map_err(|error| error.on(RX))?;
            if bytes < HEADER_BYTES {
                return Err(Malformed(format!("a receive buffer of {bytes} bytes, less than a header")).on(RX));
            }
            self.bytes += bytes;
            self.chains.push_back((head, bytes, self.parts.len() - before));
        }
        Ok(true)
    }

    /// The memory of the first, or of all that are there.
    fn parts(&self, all: bool) -> &[Slice<'m>] {
        let end = match self.chains.front() {
            Some((_, _, parts)) if !all => self.used_parts + parts,
            _ => self.parts.len(),
        };
        &self.parts[self.used_parts..end]
    }

    /// How many of the first hold `total` bytes.
    fn count_for(&self, total: usize) -> usize {
        let mut room = 0;
        let full = self.chains.iter().take_while(|(_, bytes, _)| {
            room += bytes;
            room < total
        });
        full.count() + 1
    }

    /// Head and bytes of the first, which is used from now on.
    fn take(&mut self) -> Option<(u16, usize)> {
        let (head, bytes, parts) = self.chains.pop_front()?;
        self.bytes -= bytes;
        self.used_parts += parts;
        Some((head, bytes))
    }
}

/// Bytes of all headers of a frame with several segments (virtio 1.3 §5.1.6, `hdr_len`).
fn headers_of(frame: Span<'_, '_>, offload: &Offload) -> u16 {
    let Some(checksum) = offload.checksum else { return 0 };
    let start = usize::from(checksum.start);
    let transport = match offload.segmentation {
        Segmentation::None => return 0,
        Segmentation::Udp => 8,
        Segmentation::Tcp4 | Segmentation::Tcp6 => {
            let mut offset = [0];
            frame.after(start + 12).copy_to(&mut offset);
            usize::from(offset[0] >> 4) * 4
        }
    };
    (start + transport) as u16
}

impl VirtioDevice for NetDevice {
    fn device_type(&self) -> u32 {
        VIRTIO_ID_NET
    }

    fn offered_features(&self) -> u64 {
        [
            VIRTIO_F_VERSION_1,
            VIRTIO_NET_F_CSUM,
            VIRTIO_NET_F_GUEST_CSUM,
            VIRTIO_NET_F_MTU,
            VIRTIO_NET_F_MAC,
            VIRTIO_NET_F_GUEST_TSO4,
            VIRTIO_NET_F_GUEST_TSO6,
            VIRTIO_NET_F_GUEST_USO4,
            VIRTIO_NET_F_GUEST_USO6,
            VIRTIO_NET_F_HOST_TSO4,
            VIRTIO_NET_F_HOST_TSO6,
            VIRTIO_NET_F_MRG_RXBUF,
            VIRTIO_NET_F_HOST_USO,
        ]
        .into_iter()
        .fold(0, |features, bit| features | 1 << bit)
    }

    fn acknowledge_features(&mut self, features: u64) {
        self.features = features;
        let accepts = Accepts {
            checksum: self.has(VIRTIO_NET_F_GUEST_CSUM),
            tcp4: self.has(VIRTIO_NET_F_GUEST_TSO4),
            tcp6: self.has(VIRTIO_NET_F_GUEST_TSO6),
            udp: [VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_USO4, VIRTIO_NET_F_GUEST_USO6]
                .into_iter()
                .all(|feature| self.has(feature)),
        };
        self.backend.accepts(accepts);
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        // struct virtio_net_config: mac, status, max_virtqueue_pairs, mtu. The last counts with its feature only.
        let mut config = [0; 12];
        config[..6].copy_from_slice(&self.settings.mac);
        config[8] = 1;
        config[10..].copy_from_slice(&self.settings.mtu.to_le_bytes());
        for (index, byte) in data.iter_mut().enumerate() {
            let position = usize::try_from(offset).ok().and_then(|offset| offset.checked_add(index));
            *byte = position.and_then(|position| config.get(position)).copied().unwrap_or(0);
        }
    }

    fn queue_kicked(&mut self, index: usize, queues: &mut dyn DeviceQueues) -> Result<(), DeviceError> {
        self.tx_due |= index == TX;
        self.serve(queues)
    }

    fn host_event_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.backend.event_fd())
    }

    fn host_event(&mut self, queues: &mut dyn DeviceQueues) -> Result<(), DeviceError> {
        self.backend
            .host_events(Instant::now())
            .map_err(|source| DeviceError::Host { action: "waiting for the network's sockets".into(), source })?;
        self.serve(queues)
    }

    fn reset(&mut self) {
        self.tx_due = false;
        self.sent = Untold::default();
        self.received = Untold::default();
        self.features = 0;
        self.backend.reset();
    }
}
