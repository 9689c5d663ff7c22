//! What KVM offers a machine.

use rorqual_vmm_protocol::Failure;

use super::guest::KvmGuest;
use crate::confinement::GuestKind;
use crate::guest::{Capabilities, Guest, Platform, Start};

/// KVM.
pub(in crate::guest) struct KvmPlatform;

impl Platform for KvmPlatform {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            kind: GuestKind::Threads,
            // Numbers in the interrupt controllers are 8 bits wide, so 254 would be the end.
            max_cpus: 64,
            snapshots: true,
            huge_pages: true,
            concurrent_devices: true,
            virtio_basics: true,
        }
    }

    fn start(&self, start: Start<'_>) -> Result<Box<dyn Guest>, Failure> {
        Ok(Box::new(KvmGuest::start(start)?))
    }
}
