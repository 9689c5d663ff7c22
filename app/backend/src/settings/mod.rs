//! The Settings page: reads every setting, and changes one at a time.

mod calls;
mod edit;
mod form;
mod waiting;

pub(super) use calls::{change, get};
