//! The Docker Engine's API as the window and the names of containers need it: requests over the Unix socket, one
//! connection for each.
//!
//! Why not bollard: its models follow the newest engine and drop what they do not know, so a push loses its layers'
//! names, the disk usage of our engine is empty, and a document is no longer what the engine said. Here JSON stays as
//! it came; [`model`] names the parts that are read.

mod client;
mod error;
pub mod model;
mod stream;

pub use client::{Docker, Query};
pub use error::DockerError;
pub use stream::{JsonLines, body_bytes};
