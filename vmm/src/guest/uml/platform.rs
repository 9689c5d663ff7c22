//! What User Mode Linux offers a machine.

use rorqual_vmm_protocol::Failure;

use super::guest::UmlGuest;
use crate::confinement::GuestKind;
use crate::guest::{Capabilities, Guest, Platform, Start};

/// User Mode Linux.
pub(in crate::guest) struct UmlPlatform;

impl Platform for UmlPlatform {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            kind: GuestKind::Process,
            max_cpus: 1,
            snapshots: false,
            huge_pages: false,
            // The kernel waits for its devices, so serving several requests at once gains nothing.
            concurrent_devices: false,
            // The kernel takes entropy from the host and has its console on a pipe.
            virtio_basics: false,
        }
    }

    fn start(&self, start: Start<'_>) -> Result<Box<dyn Guest>, Failure> {
        Ok(Box::new(UmlGuest::start(start)?))
    }
}
