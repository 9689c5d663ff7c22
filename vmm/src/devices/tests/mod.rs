//! What the tests of several devices share.

pub(crate) mod queues;
