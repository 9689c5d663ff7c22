//! Shared by the tests of several devices.

pub(crate) mod queues;
