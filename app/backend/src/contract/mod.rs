//! The calls and streams of the window, and the types they carry. TypeScript is generated from here.
//!
//! A call has one answer. A stream is opened with parameters, gives events (and bytes) until it ends, and may take
//! input (and bytes) meanwhile; its end without an error is success, and closing it cancels what it does.

mod build;
mod container;
mod diagnose;
mod files;
mod image;
mod machine;
mod network;
mod registry;
mod settings;
mod system;
mod table;
mod values;
mod volume;

pub use build::*;
pub use container::*;
pub use diagnose::*;
pub use files::*;
pub use image::*;
pub use machine::*;
pub use network::*;
pub use registry::*;
pub use settings::*;
pub use system::*;
pub use table::{CALLS, STREAMS, typescript};
pub(crate) use table::{each_call, each_stream};
pub use values::*;
pub use volume::*;
