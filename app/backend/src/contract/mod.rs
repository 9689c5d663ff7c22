//! The calls and streams of the window, and the types they carry. The TypeScript declarations are generated from them.
//!
//! A call returns one answer. A stream is opened with parameters and sends events (and bytes) until it ends; the page
//! may send it input (and bytes). A stream that ends without an error succeeded. Closing a stream cancels its work.

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
