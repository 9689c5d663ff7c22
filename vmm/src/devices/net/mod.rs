//! The network device (virtio 1.3 §5.1): pairs of queues, whole 64 KiB segments, checksums left out where both sides agree.
//!
//! - [`backend`] is the network behind the device, [`header`] what precedes a frame in a queue: values only.
//! - [`buffers`] are receive buffers that were taken and are not used yet, [`control`] is what the driver asks for besides frames.
//! - This file is the device: queues, notifications, configuration space.
//!
//! Frames stay in the guest's memory: the backend reads and writes them there. It is asked for frames only when the guest has buffers
//! for them.

pub mod backend;
mod buffers;
mod control;
mod header;
mod stats;
#[cfg(test)]
mod tests;

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use virtio_bindings::bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_ids::VIRTIO_ID_NET;
use virtio_bindings::virtio_net::{
    VIRTIO_NET_F_CSUM, VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_GUEST_TSO6,
    VIRTIO_NET_F_GUEST_USO4, VIRTIO_NET_F_GUEST_USO6, VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6,
    VIRTIO_NET_F_HOST_USO, VIRTIO_NET_F_MAC, VIRTIO_NET_F_MQ, VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_F_MTU,
};
use virtio_queue::{Queue, QueueT};
use vm_memory::GuestMemoryMmap;

use self::backend::{Accepts, Backend, Offload, Segmentation, Transmit};
use self::buffers::Buffers;
use self::header::HEADER_BYTES;
pub use self::stats::NetStatistics;
use self::stats::add;
use super::counters::Counters;
use super::queue::{Direction, Malformed, broken, interrupt, pieces, pop, request};
use super::{DeviceError, DeviceQueues, VirtioDevice};
use crate::net::tcp::Span;

/// Most pairs a device has. One thread serves them all: more would only cost the guest memory.
pub const MAX_PAIRS: usize = 2;
/// Sizes of the queues of two pairs, each a queue of frames for the guest and one of frames from it, and of the control queue, which is there with
/// them. User Mode Linux takes no more than 256.
const QUEUE_SIZES: [u16; 2 * MAX_PAIRS + 1] = [256, 256, 256, 256, 64];
/// Frames handled per call and direction, so that neither direction starves the other.
const BUDGET: usize = 256;
/// The guest hears of filled buffers at the latest after so many, and works on them while we fill the next.
const SIGNAL_AFTER: usize = 16;
/// Longest frame either way: an IP packet of 65,535 bytes and its Ethernet header.
pub const MAX_FRAME_BYTES: usize = 65_535 + ETHERNET_BYTES;
/// Bytes of an Ethernet header.
const ETHERNET_BYTES: usize = 14;

/// What the device tells the guest about itself.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The guest's hardware address.
    pub mac: [u8; 6],
    /// Longest IP packet of the link, in bytes.
    pub mtu: u16,
    /// Pairs of queues, 1 to [`MAX_PAIRS`]: how many processors of the guest send without waiting for one another.
    pub pairs: usize,
}

/// A frame of the guest up to this long is small: it is a request or an acknowledgment, and no buffer of many bytes waits for its end.
const SMALL_BYTES: usize = 2048;
/// For small frames that were sent, the guest is interrupted only when they are this many, or some have waited this long. All it does then is to
/// free their memory, and Linux does that at each interrupt for received frames too: what asks and is answered has one interrupt instead of two.
const MAX_SENT: usize = 64;
const SENT_WAIT: Duration = Duration::from_millis(1);

/// For small frames the guest is interrupted no more often than this: a flood of datagrams would leave it no time for who reads them.
const RECEIVED_WAIT: Duration = Duration::from_micros(50);
/// Room for the next frame for the guest: all, or half as much after each that did with less, but never less than this. Buffers that are not
/// needed cost time to take and to put back.
const MIN_ROOM: usize = 4096;
const MAX_ROOM: usize = HEADER_BYTES + MAX_FRAME_BYTES;

/// A network device.
pub struct NetDevice {
    settings: Settings,
    features: u64,
    backend: Box<dyn Backend>,
    statistics: Arc<NetStatistics>,
    pairs: [QueuePair; MAX_PAIRS],
    /// Pairs the driver uses: the first only, until it says otherwise.
    used_pairs: usize,
    /// Room to have at hand for the next frame for the guest, in bytes.
    room: usize,
}

/// A queue of frames for the guest and one of frames from it.
#[derive(Debug, Default)]
struct QueuePair {
    rx: usize,
    tx: usize,
    /// The tx queue may hold frames that were not taken yet.
    tx_due: bool,
    /// Frames of the guest that were taken.
    sent: Untold,
    /// Frames for the guest.
    received: Untold,
    /// When the guest was last interrupted for frames it received.
    told: Option<Instant>,
}

/// What one call does to a pair's queue of frames for the guest.
#[derive(Default)]
struct Filling<'m> {
    buffers: Buffers<'m>,
    /// A frame was large: the guest is not to wait for it.
    large: bool,
    /// The guest has no more buffers.
    starved: bool,
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
            settings: Settings { pairs: settings.pairs.clamp(1, MAX_PAIRS), ..settings },
            features: 0,
            backend,
            statistics: Arc::new(NetStatistics::with(behind)),
            pairs: std::array::from_fn(QueuePair::new),
            used_pairs: 1,
            room: MIN_ROOM,
        }
    }

    /// The device's counters, for any thread.
    pub fn statistics(&self) -> Arc<NetStatistics> {
        Arc::clone(&self.statistics)
    }

    fn has(&self, feature: u32) -> bool {
        self.features & 1 << feature != 0
    }

    /// Works on all pairs until nothing is left, or enough was done for one call.
    fn serve(&mut self, queues: &mut dyn DeviceQueues) -> Result<(), DeviceError> {
        let memory = queues.memory().clone();
        let now = Instant::now();
        let mut left = false;
        for number in 0..self.used_pairs {
            left |= self.take_frames(number, queues, &memory, now)?;
        }
        left |= self.give_frames(queues, &memory, now)?;
        if left {
            self.backend.call_again();
        }
        let mut deadline = None;
        for pair in &mut self.pairs[..self.used_pairs] {
            let over = |untold: &Untold| untold.due.is_some_and(|due| due <= now);
            if over(&pair.sent) {
                pair.signal_sent(queues, &memory)?;
            }
            if over(&pair.received) {
                pair.signal_received(queues, &memory, now)?;
            }
            deadline = [deadline, pair.sent.due, pair.received.due].into_iter().flatten().min();
        }
        self.backend.settle(now, deadline);
        Ok(())
    }

    /// Handles frames from the guest on one pair. Returns whether some are left for want of budget.
    fn take_frames(
        &mut self,
        number: usize,
        queues: &mut dyn DeviceQueues,
        memory: &GuestMemoryMmap,
        now: Instant,
    ) -> Result<bool, DeviceError> {
        let tx = self.pairs[number].tx;
        if !self.pairs[number].tx_due || !queues.queue(tx).ready() {
            return Ok(false);
        }
        let queue = queues.queue(tx);
        let (mut done, mut large) = (0, false);
        let mut parts = Vec::new();
        if self.used_pairs > 1 {
            self.backend.set_pair(number);
        }
        queue.disable_notification(memory).map_err(|error| broken(tx, &error))?;
        while done < BUDGET {
            let Some(chain) = pop(tx, queue, memory)? else {
                if queue.enable_notification(memory).map_err(|error| broken(tx, &error))? {
                    queue.disable_notification(memory).map_err(|error| broken(tx, &error))?;
                    continue;
                }
                self.pairs[number].tx_due = false;
                break;
            };
            let head = chain.head_index();
            parts.clear();
            let total = pieces(memory, chain, Direction::FromGuest, &mut parts).map_err(|error| error.on(tx))?;
            if total < HEADER_BYTES {
                return Err(Malformed(format!("a frame of {total} bytes, less than its header")).on(tx));
            }
            if total > HEADER_BYTES + MAX_FRAME_BYTES {
                return Err(Malformed(format!("a frame of {total} bytes, more than a packet can have")).on(tx));
            }
            large |= total > SMALL_BYTES;
            self.hand_over(Span::new(&parts), now);
            queue.add_used(memory, head, 0).map_err(|error| broken(tx, &error))?;
            done += 1;
        }
        if number > 0 {
            add(&self.statistics.frames_from_guest_second_pair, done);
        }
        let pair = &mut self.pairs[number];
        pair.sent.buffers += done;
        if large || pair.sent.buffers >= MAX_SENT {
            pair.signal_sent(queues, memory)?;
        } else if done > 0 {
            pair.sent.due.get_or_insert(now + SENT_WAIT);
        }
        Ok(pair.tx_due)
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

    /// The pair by which the next frame for the guest goes.
    fn next_pair(&mut self, queues: &mut dyn DeviceQueues, now: Instant) -> usize {
        if self.used_pairs == 1 {
            return 0;
        }
        let number = self.backend.next_pair(now);
        let usable = number < self.used_pairs && queues.queue(self.pairs[number].rx).ready();
        if usable { number } else { 0 }
    }

    /// Fills receive buffers with what waits for the guest. Returns whether more waits for want of budget.
    fn give_frames(
        &mut self,
        queues: &mut dyn DeviceQueues,
        memory: &GuestMemoryMmap,
        now: Instant,
    ) -> Result<bool, DeviceError> {
        if !queues.queue(self.pairs[0].rx).ready() || !self.backend.has_frames() {
            return Ok(false);
        }
        let merged = self.has(VIRTIO_NET_F_MRG_RXBUF);
        let mut fillings: [Filling<'_>; MAX_PAIRS] = Default::default();
        for pair in &self.pairs[..self.used_pairs] {
            queues.queue(pair.rx).disable_notification(memory).map_err(|error| broken(pair.rx, &error))?;
        }
        let mut done = 0;
        while done < BUDGET && self.backend.has_frames() {
            let number = self.next_pair(queues, now);
            let rx = self.pairs[number].rx;
            let Filling { buffers, large, starved } = &mut fillings[number];
            let queue = queues.queue(rx);
            let enough = buffers.collect(rx, queue, memory, if merged { self.room } else { 1 })?;
            let room = Span::new(buffers.parts(merged)).after(HEADER_BYTES);
            let transmit = if room.is_empty() { Transmit::NeedsRoom } else { self.backend.transmit(room, now) };
            match transmit {
                Transmit::Nothing => {}
                Transmit::Frame(length, offload) => {
                    *large |= length > SMALL_BYTES;
                    self.room = if length > self.room / 2 { MAX_ROOM } else { MIN_ROOM.max(self.room / 2) };
                    self.pairs[number].received.buffers += self.fill(rx, queue, memory, buffers, length, &offload)?;
                    add(&self.statistics.frames_to_guest_second_pair, usize::from(number > 0));
                    done += 1;
                }
                Transmit::NeedsRoom if enough && merged && self.room < MAX_ROOM => self.room = MAX_ROOM,
                // A single buffer that is too small is used up with nothing in it (virtio 1.3 §5.1.6.3.1); a driver that cannot
                // merge buffers has larger ones.
                Transmit::NeedsRoom if enough => {
                    let Some((head, _)) = buffers.take() else { break };
                    add(&self.statistics.frames_dropped, 1);
                    queue.add_used(memory, head, 0).map_err(|error| broken(rx, &error))?;
                    done += 1;
                }
                Transmit::NeedsRoom => {
                    // The guest's next kick of this queue goes on here; until then the host's sockets are not read. What is for another pair
                    // waits too: frames keep their order.
                    if queue.enable_notification(memory).map_err(|error| broken(rx, &error))? {
                        queue.disable_notification(memory).map_err(|error| broken(rx, &error))?;
                        continue;
                    }
                    add(&self.statistics.rx_starved, 1);
                    *starved = true;
                    break;
                }
            }
            if self.pairs[number].received.buffers >= SIGNAL_AFTER {
                self.pairs[number].signal_received(queues, memory, now)?;
            }
        }
        let mut starved = false;
        for (pair, filling) in self.pairs[..self.used_pairs].iter_mut().zip(&fillings) {
            let queue = queues.queue(pair.rx);
            // What was not used is still the first in the available ring.
            queue.set_next_avail(queue.next_avail().wrapping_sub(filling.buffers.len() as u16));
            starved |= filling.starved;
            if pair.received.buffers > 0 {
                match pair.told.map(|told| told + RECEIVED_WAIT) {
                    Some(next) if next > now && !filling.large && !filling.starved => pair.received.due = Some(next),
                    _ => pair.signal_received(queues, memory, now)?,
                }
            }
        }
        Ok(!starved && self.backend.has_frames())
    }

    /// Gives the guest a frame of `length` bytes that lies in `buffers`, and returns how many of them it took.
    fn fill(
        &self,
        rx: usize,
        queue: &mut Queue,
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
            queue.add_used(memory, head, used as u32).map_err(|error| broken(rx, &error))?;
        }
        add(&self.statistics.frames_to_guest, 1);
        add(&self.statistics.bytes_to_guest, length);
        Ok(count)
    }

    /// Index of the control queue. It is behind all pairs, or behind the only one a driver knows of (virtio 1.3 §5.1.2).
    fn control(&self) -> usize {
        2 * if self.has(VIRTIO_NET_F_MQ) { self.settings.pairs } else { 1 }
    }

    /// Does what the driver asks for by the control queue.
    fn take_commands(&mut self, queues: &mut dyn DeviceQueues) -> Result<(), DeviceError> {
        let (memory, index) = (queues.memory().clone(), self.control());
        let mut answered = false;
        while queues.queue(index).ready() {
            let Some(chain) = pop(index, queues.queue(index), &memory)? else { break };
            let head = chain.head_index();
            let (command, place) = request(&memory, chain).map_err(|error| error.on(index))?;
            let place =
                place.first().ok_or_else(|| Malformed("a command with no place for its answer".into()).on(index))?;
            let pairs = control::pairs_asked_for(&command, self.settings.pairs).map_err(|error| error.on(index))?;
            let pairs = pairs.filter(|_| self.has(VIRTIO_NET_F_MQ));
            if let Some(pairs) = pairs {
                self.used_pairs = pairs;
            }
            control::answer(place, pairs.is_some()).map_err(|error| error.on(index))?;
            queues.queue(index).add_used(&memory, head, 1).map_err(|error| broken(index, &error))?;
            answered = true;
        }
        if answered {
            interrupt(index, queues, &memory)?;
        }
        Ok(())
    }
}

impl QueuePair {
    /// The pair of this number, from 0 on.
    fn new(number: usize) -> Self {
        Self { rx: 2 * number, tx: 2 * number + 1, ..Self::default() }
    }

    /// Interrupts the guest for the frames that were taken, if it still wants to hear of them.
    fn signal_sent(&mut self, queues: &mut dyn DeviceQueues, memory: &GuestMemoryMmap) -> Result<(), DeviceError> {
        self.sent = Untold::default();
        interrupt(self.tx, queues, memory)?;
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
        if interrupt(self.rx, queues, memory)? {
            self.told = Some(now);
        }
        Ok(())
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
        let several = if self.settings.pairs > 1 { 1 << VIRTIO_NET_F_MQ | 1 << VIRTIO_NET_F_CTRL_VQ } else { 0 };
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
        .fold(several, |features, bit| features | 1 << bit)
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
        match self.settings.pairs {
            1 => &QUEUE_SIZES[..2],
            _ => &QUEUE_SIZES,
        }
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        // struct virtio_net_config: mac, status, max_virtqueue_pairs, mtu. The last two count with their features only.
        let mut config = [0; 12];
        config[..6].copy_from_slice(&self.settings.mac);
        config[8] = self.settings.pairs as u8;
        config[10..].copy_from_slice(&self.settings.mtu.to_le_bytes());
        for (index, byte) in data.iter_mut().enumerate() {
            let position = usize::try_from(offset).ok().and_then(|offset| offset.checked_add(index));
            *byte = position.and_then(|position| config.get(position)).copied().unwrap_or(0);
        }
    }

    fn queue_kicked(&mut self, index: usize, queues: &mut dyn DeviceQueues) -> Result<(), DeviceError> {
        if index == self.control() {
            self.take_commands(queues)?;
        } else if let Some(pair) = self.pairs.iter_mut().find(|pair| pair.tx == index) {
            pair.tx_due = true;
        }
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

    fn save(&self) -> serde_json::Value {
        serde_json::json!({ "used_pairs": self.used_pairs })
    }

    fn restore(&mut self, state: &serde_json::Value, _queues: &mut dyn DeviceQueues) -> Result<(), String> {
        let pairs = state["used_pairs"].as_u64().and_then(|pairs| usize::try_from(pairs).ok());
        self.used_pairs = pairs
            .filter(|pairs| (1..=self.settings.pairs).contains(pairs))
            .ok_or_else(|| format!("it cannot use so many pairs of queues: {}", state["used_pairs"]))?;
        Ok(())
    }

    fn reset(&mut self) {
        self.pairs = std::array::from_fn(QueuePair::new);
        self.used_pairs = 1;
        self.features = 0;
        self.backend.reset();
    }
}
