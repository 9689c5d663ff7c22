//! Containers: as the window lists them, in detail, and what can be done to them.

pub(crate) mod detail;
mod summary;
pub(crate) mod verbs;

pub(crate) use summary::all;
