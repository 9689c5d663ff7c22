//! Attachments: what carries a device's queues to the guest. [`mmio`] does so in the monitor's process, [`vhost_user`]
//! between processes, with a [`relay`] for User Mode Linux. Each notifies its driver through a [`notice`].

mod device_thread;
pub mod mmio;
pub mod notice;
pub mod relay;
pub mod vhost_user;
