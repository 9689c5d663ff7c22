//! A paused machine in files, and back (docs/monitor.md, "Snapshots").
//!
//! A snapshot is a [`directory`] of two files: [`memory`], the guest's memory as it lies in its regions, with holes
//! where it is zero; and [`document`], everything else with checksums of both. The document is written last and renamed
//! into place, so a directory that has one is a whole snapshot. Restoring maps the memory file privately: the system
//! reads a page when the guest touches it.

mod directory;
pub mod document;
pub mod memory;

pub use self::directory::{Opened, commit, create_memory, network, open, remove};
