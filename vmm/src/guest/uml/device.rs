//! A device on its way to the guest: served over vhost-user on a socket of its own, relayed to the kernel.

use std::fmt::Display;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;

use nix::sys::socket::{Shutdown, shutdown};
use rorqual_vmm_protocol::Failure;
use tracing::{debug, error};
use vhost::vhost_user::Listener;

use super::thread::spawn;
use crate::attachment::relay::relay;
use crate::attachment::vhost_user::VhostUserAttachment;
use crate::confinement::{self, Thread};
use crate::guest::{Event, GuestDevice};

/// A device that waits for the kernel: its thread, which relays once the kernel connects, and the socket that ends the
/// wait.
#[derive(Debug)]
pub(super) struct Attached {
    /// The kernel's argument that names the device.
    pub(super) argument: String,
    listener: UnixListener,
    thread: JoinHandle<()>,
}

impl Attached {
    /// Waits until the device has completed what the guest asked of it. Call it after the guest's end.
    pub(super) fn finish(self) {
        // A kernel that ended early will not connect any more.
        if let Err(error) = shutdown(self.listener.as_raw_fd(), Shutdown::Both) {
            debug!("the socket of a device was closed already: {error}");
        }
        if self.thread.join().is_err() {
            error!("the thread of a device has failed");
        }
    }
}

/// Serves a device on a socket of its own in the directory `runtime`.
pub(super) fn attach(
    runtime: &Path,
    number: usize,
    device: GuestDevice,
    events: &Sender<Event>,
) -> Result<Attached, Failure> {
    let GuestDevice { id, device, notice } = device;
    let kind = device.device_type();
    let failed = |error: &dyn Display| Failure::internal(&format!("attach device {id}"), error);
    let mut attachment = VhostUserAttachment::new(&id, device).map_err(|error| failed(&error))?;
    let inner = runtime.join(format!("b{number}"));
    let mut listener = Listener::new(&inner, true).map_err(|error| failed(&error))?;
    let backend = UnixStream::connect(&inner).map_err(|error| failed(&error))?;
    attachment.accept(&mut listener).map_err(|error| failed(&error))?;
    drop(listener);

    let outer = runtime.join(format!("d{number}"));
    let listener = UnixListener::bind(&outer).map_err(|error| failed(&error))?;
    let kernel = listener.try_clone().map_err(|error| failed(&error))?;
    let events = events.clone();
    let thread = spawn(&format!("connect-{id}"), move || {
        confinement::enter(Thread::Relay);
        let Ok((frontend, _)) = kernel.accept() else { return };
        let _ = events.send(Event::Connected);
        let name = id.clone();
        let relaying = spawn(&format!("relay-{id}"), move || {
            if let Err(error) = relay(&frontend, &backend, &notice) {
                error!(device = %name, "the device has lost the guest: {error}");
            }
            // Dropping the attachment drops the device, once both of its connections have ended.
            drop(backend);
            if let Err(error) = attachment.wait() {
                error!(device = %name, "{error}");
            }
        });
        // A kernel that connects again has reset: User Mode Linux does so by executing itself.
        if kernel.accept().is_ok() {
            let _ = events.send(Event::Reset);
        }
        match relaying.map(JoinHandle::join) {
            Ok(Ok(())) => {}
            Ok(Err(_)) => error!(device = %id, "the thread that relays has failed"),
            Err(failure) => error!(device = %id, "{failure}"),
        }
    })?;
    Ok(Attached { argument: format!("virtio_uml.device={}:{kind}", outer.display()), listener, thread })
}
