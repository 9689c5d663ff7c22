//! Containers: the list, details, and actions.

pub(crate) mod detail;
mod summary;
pub(crate) mod verbs;

pub(crate) use summary::all;
