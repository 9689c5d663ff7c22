//! The vhost-user attachment: a [`VirtioDevice`] served to another process that runs the guest's processor.
//!
//! Threads: one reads the frontend's messages; another, the ring thread, waits for kicks and for the device's own
//! descriptor, and is the only one that calls the device's queues. Both lock the device's mutex, and a ring's mutex
//! after it.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use thiserror::Error;
use tracing::{debug, error};
use vhost::vhost_user::Listener;
use vhost::vhost_user::message::{VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use vhost_user_backend::{VhostUserBackend, VhostUserDaemon, VringEpollHandler, VringMutex, VringState, VringT};
use virtio_bindings::bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use virtio_queue::{Queue, QueueT};
use vm_memory::{GuestAddressSpace, GuestMemoryAtomic, GuestMemoryMmap};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::event::{EventConsumer, EventFlag, EventNotifier, new_event_consumer_and_notifier};

use super::device_thread;
use crate::confinement::{self, Thread};
use crate::devices::{DeviceError, DeviceQueues, VirtioDevice};

type Memory = GuestMemoryAtomic<GuestMemoryMmap>;
type Vring = VringMutex<Memory>;
type Daemon = VhostUserDaemon<Arc<Backend>>;
type RingThread = VringEpollHandler<Arc<Backend>>;

/// Why a device could not be attached.
#[derive(Debug, Error)]
pub enum AttachmentError {
    /// The vhost-user library refused.
    #[error("cannot serve device {device} over vhost-user: {reason}")]
    Serve {
        /// Identity of the device, for the log.
        device: String,
        /// The library's reason.
        reason: String,
    },
    /// The system refused.
    #[error("cannot {action} for device {device}: {source}")]
    Host {
        /// What was being done.
        action: &'static str,
        /// Identity of the device, for the log.
        device: String,
        /// The system's answer.
        source: io::Error,
    },
}

/// A device served over vhost-user; it is served until this is dropped.
pub struct VhostUserAttachment {
    name: String,
    daemon: Daemon,
}

impl VhostUserAttachment {
    /// Prepares `device`. `name` is its identity in the log.
    pub fn new(name: &str, device: Box<dyn VirtioDevice>) -> Result<Self, AttachmentError> {
        let memory = GuestMemoryAtomic::new(GuestMemoryMmap::new());
        let host_event = device.host_event_fd().map(|fd| fd.as_raw_fd());
        let backend = Arc::new(Backend {
            name: name.to_owned(),
            queue_sizes: device.queue_sizes().to_vec(),
            features: device.offered_features(),
            memory: memory.clone(),
            serving: Mutex::new(Serving { device, broken: false }),
            host_event: OnceLock::new(),
        });
        let serve = |reason: String| AttachmentError::Serve { device: name.to_owned(), reason };
        let daemon =
            Daemon::new(format!("vhost-{name}"), backend.clone(), memory).map_err(|error| serve(error.to_string()))?;
        if let Some(fd) = host_event {
            let thread = daemon
                .get_epoll_handlers()
                .into_iter()
                .next()
                .ok_or_else(|| serve("it has no thread for its rings".to_owned()))?;
            thread.register_listener(fd, EventSet::IN, backend.host_event_token()).map_err(|source| {
                AttachmentError::Host { action: "wait for host events", device: name.to_owned(), source }
            })?;
            // The descriptor lives as long as the device, and the device as long as the backend.
            let _ = backend.host_event.set((Arc::downgrade(&thread), fd));
        }
        Ok(Self { name: name.to_owned(), daemon })
    }

    /// Accepts one frontend on `listener` and starts to serve it; returns once it is connected.
    pub fn accept(&mut self, listener: &mut Listener) -> Result<(), AttachmentError> {
        self.daemon.start(listener).map_err(|error| self.failed(error.to_string()))
    }

    /// Waits until the frontend disconnects.
    pub fn wait(&mut self) -> Result<(), AttachmentError> {
        match self.daemon.wait() {
            Ok(()) | Err(vhost_user_backend::Error::HandleRequest(vhost::vhost_user::Error::Disconnected)) => Ok(()),
            Err(error) => Err(self.failed(error.to_string())),
        }
    }

    fn failed(&self, reason: String) -> AttachmentError {
        AttachmentError::Serve { device: self.name.clone(), reason }
    }
}

struct Serving {
    device: Box<dyn VirtioDevice>,
    /// Set by the device's first error. Its queues are not served until the driver resets it.
    broken: bool,
}

/// One device as the vhost-user library sees it.
struct Backend {
    name: String,
    queue_sizes: Vec<u16>,
    features: u64,
    memory: Memory,
    serving: Mutex<Serving>,
    host_event: OnceLock<(Weak<RingThread>, RawFd)>,
}

impl Backend {
    fn serving(&self) -> MutexGuard<'_, Serving> {
        self.serving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first token beyond the library's, which go up to the number of queues.
    fn host_event_token(&self) -> u64 {
        self.queue_sizes.len() as u64 + 1
    }

    /// Silences the device. The guest sees unanswered requests; the log has the reason.
    fn break_device(&self, serving: &mut Serving, reason: &DeviceError) {
        serving.broken = true;
        error!(device = %self.name, "the device has stopped: {reason}");
        if let Some((thread, fd)) = self.host_event.get()
            && let Some(thread) = thread.upgrade()
        {
            // A readable descriptor that nobody reads would keep the ring thread busy forever.
            if let Err(error) = thread.unregister_listener(*fd, EventSet::IN, self.host_event_token()) {
                debug!(device = %self.name, "the device's host events were not waited for: {error}");
            }
        }
    }
}

impl VhostUserBackend for Backend {
    type Bitmap = ();
    type Vring = Vring;

    fn num_queues(&self) -> usize {
        self.queue_sizes.len()
    }

    fn max_queue_size(&self) -> usize {
        self.queue_sizes.iter().copied().max().unwrap_or(0).into()
    }

    fn features(&self) -> u64 {
        self.features
            | 1 << VIRTIO_RING_F_EVENT_IDX
            | 1 << VIRTIO_RING_F_INDIRECT_DESC
            | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits()
    }

    fn acked_features(&self, features: u64) {
        // The library's thread for messages: our first code in it, before any memory is mapped.
        confinement::enter(Thread::VhostMessages);
        self.serving().device.acknowledge_features(features & self.features);
    }

    fn protocol_features(&self) -> VhostUserProtocolFeatures {
        // BACKEND_REQ, although nothing here uses it: the UML driver of Linux 6.12 has no interrupt without it.
        VhostUserProtocolFeatures::CONFIG
            | VhostUserProtocolFeatures::MQ
            | VhostUserProtocolFeatures::REPLY_ACK
            | VhostUserProtocolFeatures::BACKEND_REQ
    }

    fn reset_device(&self) {
        let mut serving = self.serving();
        serving.device.reset();
        serving.broken = false;
    }

    fn set_event_idx(&self, _enabled: bool) {
        // The library sets it in each ring's queue.
    }

    fn get_config(&self, offset: u32, size: u32) -> Vec<u8> {
        // User Mode Linux accepts only an answer of exactly the requested size.
        let mut data = vec![0; size as usize];
        self.serving().device.read_config(u64::from(offset), &mut data);
        data
    }

    fn set_config(&self, offset: u32, data: &[u8]) -> io::Result<()> {
        self.serving().device.write_config(u64::from(offset), data);
        Ok(())
    }

    fn update_memory(&self, _memory: Memory) -> io::Result<()> {
        // The backend has this memory already; only its regions changed.
        Ok(())
    }

    fn exit_event(&self, _thread: usize) -> Option<(EventConsumer, EventNotifier)> {
        match new_event_consumer_and_notifier(EventFlag::NONBLOCK | EventFlag::CLOEXEC) {
            Ok(pair) => Some(pair),
            Err(error) => {
                error!(device = %self.name, "cannot create an event for the end of the device's thread: {error}");
                None
            }
        }
    }

    fn handle_event(&self, token: u16, _events: EventSet, vrings: &[Vring], _thread: usize) -> io::Result<()> {
        let mut serving = self.serving();
        // The library's thread for rings, which calls only this.
        device_thread::begin(serving.device.device_type());
        if serving.broken {
            return Ok(());
        }
        let memory = self.memory.memory();
        let mut queues = Rings { memory: &memory, rings: vrings.iter().map(VringT::get_mut).collect() };
        let answer = if u64::from(token) == self.host_event_token() {
            serving.device.host_event(&mut queues)
        } else if usize::from(token) < vrings.len() {
            serving.device.queue_kicked(token.into(), &mut queues)
        } else {
            Ok(())
        };
        drop(queues);
        if let Err(reason) = answer {
            self.break_device(&mut serving, &reason);
        }
        // An error would end the library's thread, which a broken device does not justify.
        Ok(())
    }
}

/// The rings of one device, locked during one call.
struct Rings<'a> {
    memory: &'a GuestMemoryMmap,
    rings: Vec<MutexGuard<'a, VringState<Memory>>>,
}

impl DeviceQueues for Rings<'_> {
    fn memory(&self) -> &GuestMemoryMmap {
        self.memory
    }

    fn count(&self) -> usize {
        self.rings.len()
    }

    fn queue(&mut self, index: usize) -> &mut Queue {
        let ring = &mut self.rings[index];
        // A ring the frontend disabled must not be served (vhost-user, "Ring states").
        if !ring.is_enabled() && ring.get_queue().ready() {
            debug!(index, "the device uses a disabled ring");
        }
        ring.get_queue_mut()
    }

    fn signal(&mut self, index: usize) {
        match self.rings[index].signal_used_queue() {
            Ok(()) => {}
            // Full: the guest has an interrupt to take already.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // The guest has ended, which is reported elsewhere.
            Err(error) => debug!(index, "cannot interrupt the guest: {error}"),
        }
    }
}
