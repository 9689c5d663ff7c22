//! The device: queues, notifications, features, configuration space.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Instant;

use virtio_bindings::bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_ids::VIRTIO_ID_NET;
use virtio_bindings::virtio_net::{
    VIRTIO_NET_F_CSUM, VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_GUEST_TSO6,
    VIRTIO_NET_F_GUEST_USO4, VIRTIO_NET_F_GUEST_USO6, VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6,
    VIRTIO_NET_F_HOST_USO, VIRTIO_NET_F_MAC, VIRTIO_NET_F_MQ, VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_F_MTU,
};
use virtio_queue::QueueT;
use vm_memory::GuestMemoryMmap;

use super::backend::{Accepts, Backend, Transmit};
use super::control;
use super::header::{self, HEADER_BYTES};
use super::receive_queue::{Filling, ReceiveQueue};
use super::stats::{NetStatistics, add};
use super::transmit_queue::TransmitQueue;
use super::unsignalled::SMALL_BYTES;
use super::{BUDGET, ETHERNET_BYTES, MAX_FRAME_BYTES};
use crate::devices::counters::Counters;
use crate::devices::queue::{ServedQueue, interrupt};
use crate::devices::span::Span;
use crate::devices::{DeviceError, DeviceQueues, VirtioDevice, configuration};

/// Most pairs of queues. One thread serves them all: more pairs would only cost the guest memory.
pub const MAX_PAIRS: usize = 2;
/// Sizes of the queues: for each pair a receive and a transmit queue, and last the control queue, which comes with the
/// second pair. User Mode Linux takes no more than 256.
pub(super) const QUEUE_SIZES: [u16; 2 * MAX_PAIRS + 1] = [256, 256, 256, 256, 64];
/// Bytes of receive buffers collected for the next frame: all that a frame can need, or half as much after each frame
/// that needed less, but never less than the minimum. Taking buffers and putting them back costs time.
const MIN_ROOM: usize = 4096;
const MAX_ROOM: usize = HEADER_BYTES + MAX_FRAME_BYTES;

/// What the device reports to the guest about itself.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The guest's hardware address.
    pub mac: [u8; 6],
    /// Longest IP packet of the link, in bytes.
    pub mtu: u16,
    /// Pairs of queues, 1 to [`MAX_PAIRS`]: how many processors of the guest can send without waiting for one another.
    pub pairs: usize,
}

/// A network device.
pub struct NetDevice {
    settings: Settings,
    features: u64,
    backend: Box<dyn Backend>,
    statistics: Arc<NetStatistics>,
    pub(super) pairs: [QueuePair; MAX_PAIRS],
    /// Pairs the driver uses: only the first until it asks for more.
    pub(super) used_pairs: usize,
    /// Bytes of receive buffers to collect for the next frame.
    room: usize,
}

/// A queue of frames for the guest and one of frames from it.
#[derive(Debug)]
pub(super) struct QueuePair {
    pub(super) receive: ReceiveQueue,
    pub(super) transmit: TransmitQueue,
}

/// What came of an attempt to give the guest a frame.
enum Step {
    /// It used up receive buffers, and counts against the budget.
    Done,
    /// It used up nothing; the next attempt may.
    Again,
    /// The driver has no more buffers.
    Starved,
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

    /// Serves all pairs until nothing is left, or the budget of one call is spent.
    fn serve(&mut self, queues: &mut dyn DeviceQueues) -> Result<(), DeviceError> {
        let memory = queues.memory().clone();
        let now = Instant::now();
        let mut left = self.take_frames(queues, &memory, now)?;
        left |= self.give_frames(queues, &memory, now)?;
        if left {
            self.backend.call_again();
        }
        let mut deadline = None;
        for pair in &mut self.pairs[..self.used_pairs] {
            pair.transmit.interrupt_if_due(queues, &memory, now)?;
            pair.receive.interrupt_if_due(queues, &memory, now)?;
            deadline = [deadline, pair.transmit.deadline(), pair.receive.deadline()].into_iter().flatten().min();
        }
        self.backend.settle(now, deadline);
        Ok(())
    }

    /// Handles frames from the guest. Returns whether the budget of a queue ended before its frames did.
    fn take_frames(
        &mut self,
        queues: &mut dyn DeviceQueues,
        memory: &GuestMemoryMmap,
        now: Instant,
    ) -> Result<bool, DeviceError> {
        let (backend, statistics) = (&mut self.backend, &self.statistics);
        let mut left = false;
        for (number, pair) in self.pairs[..self.used_pairs].iter_mut().enumerate() {
            if !pair.transmit.is_due(queues) {
                continue;
            }
            backend.set_pair(number);
            let hand_over = |frame: Span<'_, '_>| hand_over(frame, &mut **backend, statistics, now);
            let taken = pair.transmit.take_frames(queues, memory, now, hand_over)?;
            add(&statistics.frames_from_guest_second_pair, if number > 0 { taken } else { 0 });
            left |= pair.transmit.is_due(queues);
        }
        Ok(left)
    }

    /// Fills receive buffers with frames for the guest. Returns whether the budget ended before the frames did.
    fn give_frames(
        &mut self,
        queues: &mut dyn DeviceQueues,
        memory: &GuestMemoryMmap,
        now: Instant,
    ) -> Result<bool, DeviceError> {
        let ready = |pair: &&QueuePair| queues.queue(pair.receive.index()).ready();
        let usable = self.pairs[..self.used_pairs].iter().take_while(ready).count();
        if usable == 0 || !self.backend.has_frames() {
            return Ok(false);
        }
        for pair in &self.pairs[..usable] {
            ServedQueue::of(pair.receive.index(), queues, memory).stop_notifications()?;
        }
        let mut fillings: [Filling<'_>; MAX_PAIRS] = Default::default();
        let mut done = 0;
        while done < BUDGET && self.backend.has_frames() {
            // A driver that uses one pair, or has not set up the second, receives everything by the first.
            let next = if usable > 1 { self.backend.next_pair(now) } else { 0 };
            let number = if next < usable { next } else { 0 };
            match self.give_frame(number, &mut fillings[number], queues, memory, now)? {
                Step::Done => done += 1,
                Step::Again => {}
                // A frame for another pair waits too: frames keep their order.
                Step::Starved => break,
            }
        }
        let mut starved = false;
        for (pair, filling) in self.pairs[..usable].iter_mut().zip(&fillings) {
            starved |= filling.starved;
            pair.receive.finish(filling, queues, memory, now)?;
        }
        Ok(!starved && self.backend.has_frames())
    }

    /// Gives the guest one frame by the pair of this number.
    fn give_frame<'m>(
        &mut self,
        number: usize,
        filling: &mut Filling<'m>,
        queues: &mut dyn DeviceQueues,
        memory: &'m GuestMemoryMmap,
        now: Instant,
    ) -> Result<Step, DeviceError> {
        let merged = self.has(VIRTIO_NET_F_MRG_RXBUF);
        let receive = &mut self.pairs[number].receive;
        let mut queue = ServedQueue::of(receive.index(), queues, memory);
        let enough = filling.buffers.collect(&mut queue, if merged { self.room } else { 1 })?;
        let room = Span::new(filling.buffers.parts(merged)).after(HEADER_BYTES);
        let transmit = if room.is_empty() { Transmit::NeedsRoom } else { self.backend.transmit(room, now) };
        let step = match transmit {
            Transmit::Nothing => Step::Again,
            Transmit::Frame(length, offload) => {
                filling.large |= length > SMALL_BYTES;
                self.room = if length > self.room / 2 { MAX_ROOM } else { MIN_ROOM.max(self.room / 2) };
                receive.add_filled(filling.buffers.complete(&mut queue, length, &offload)?);
                add(&self.statistics.frames_to_guest, 1);
                add(&self.statistics.bytes_to_guest, length);
                add(&self.statistics.frames_to_guest_second_pair, usize::from(number > 0));
                Step::Done
            }
            Transmit::NeedsRoom if enough && merged && self.room < MAX_ROOM => {
                self.room = MAX_ROOM;
                Step::Again
            }
            // A single buffer that is too small is returned empty (virtio 1.3 §5.1.6.3.1); a driver that cannot merge
            // buffers has larger ones.
            Transmit::NeedsRoom if enough => {
                filling.buffers.discard(&mut queue)?;
                add(&self.statistics.frames_dropped, 1);
                Step::Done
            }
            Transmit::NeedsRoom if queue.await_notification()? => Step::Again,
            // The driver's next notification of this queue resumes here; until then the host's sockets are not read.
            Transmit::NeedsRoom => {
                filling.starved = true;
                add(&self.statistics.rx_starved, 1);
                Step::Starved
            }
        };
        receive.interrupt_if_many(queues, memory, now)?;
        Ok(step)
    }

    /// Index of the control queue. It follows all pairs, or the only pair of a driver that knows one (virtio 1.3
    /// §5.1.2).
    fn control(&self) -> usize {
        2 * if self.has(VIRTIO_NET_F_MQ) { self.settings.pairs } else { 1 }
    }

    /// Handles the driver's commands on the control queue.
    fn take_commands(&mut self, queues: &mut dyn DeviceQueues) -> Result<(), DeviceError> {
        let (memory, index) = (queues.memory().clone(), self.control());
        if !queues.queue(index).ready() {
            return Ok(());
        }
        let mut queue = ServedQueue::of(index, queues, &memory);
        let mut answered = false;
        while let Some(chain) = queue.pop()? {
            let head = chain.head_index();
            let pairs = control::answer(&memory, chain, |pairs| {
                self.has(VIRTIO_NET_F_MQ) && (1..=self.settings.pairs).contains(&pairs)
            })
            .map_err(|error| error.on(index))?;
            if let Some(pairs) = pairs {
                self.used_pairs = pairs;
            }
            queue.add_used(head, 1)?;
            answered = true;
        }
        if answered {
            interrupt(index, queues, &memory)?;
        }
        Ok(())
    }
}

/// Hands a frame of the guest to the backend, without the header before it.
fn hand_over(whole: Span<'_, '_>, backend: &mut dyn Backend, statistics: &NetStatistics, now: Instant) {
    let mut header = [0; HEADER_BYTES];
    whole.copy_to(&mut header);
    let frame = whole.after(HEADER_BYTES);
    match header::decode(&header, frame.len()) {
        Some(offload) if frame.len() >= ETHERNET_BYTES => {
            add(&statistics.frames_from_guest, 1);
            add(&statistics.bytes_from_guest, frame.len());
            backend.receive(frame, &offload, now);
        }
        _ => add(&statistics.frames_dropped, 1),
    }
}

impl QueuePair {
    /// The pair of this number, from 0 on.
    fn new(number: usize) -> Self {
        Self { receive: ReceiveQueue::new(2 * number), transmit: TransmitQueue::new(2 * number + 1) }
    }
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
        // struct virtio_net_config: mac, status, max_virtqueue_pairs, mtu. The last two are valid only with their
        // features.
        let mut config = [0; 12];
        config[..6].copy_from_slice(&self.settings.mac);
        config[8] = self.settings.pairs as u8;
        config[10..].copy_from_slice(&self.settings.mtu.to_le_bytes());
        configuration::read(&config, offset, data);
    }

    fn queue_kicked(&mut self, index: usize, queues: &mut dyn DeviceQueues) -> Result<(), DeviceError> {
        if index == self.control() {
            self.take_commands(queues)?;
        } else if let Some(pair) = self.pairs.iter_mut().find(|pair| pair.transmit.index() == index) {
            pair.transmit.set_due();
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
