//! The memory balloon (virtio 1.3 §5.5): pages the guest does not need go back to the host.
//!
//! Pages go back in two ways. By itself, the guest reports pages that have been free for a while (free page reporting,
//! §5.5.6.8); they are dropped before the report is answered, and come back as the guest touches them. On demand, the
//! host sets a size ([`BalloonSize`]), and the guest takes as many pages out of its own use. [`release`] drops the
//! pages, [`device`] serves the queues.
//!
//! `VIRTIO_BALLOON_F_PAGE_POISON` is not offered. With it, a guest that fills its free pages with a pattern would
//! expect reported pages to come back with that pattern; here they come back as zeroes, or with an older content
//! ([`release`] explains when). A driver whose kernel uses such a pattern turns reporting off when the feature is
//! missing (§5.5.6.8). `VIRTIO_BALLOON_F_MUST_TELL_HOST` is not offered either: the guest may use a page of the balloon
//! at any time, and finds it empty.

mod device;
mod release;
mod size;
#[cfg(test)]
mod tests;

pub use self::device::BalloonDevice;
pub use self::size::{BalloonSize, PAGE_BYTES};
