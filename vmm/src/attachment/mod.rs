//! Attachments: what carries a device's queues to the guest.

mod device_thread;
pub mod mmio;
pub mod notice;
pub mod relay;
pub mod vhost_user;
