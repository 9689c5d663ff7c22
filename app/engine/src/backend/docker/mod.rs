//! The Docker Engine's API as the window needs it: requests over the Unix socket, a connection each.
//!
//! Why not bollard: its models follow the newest engine and drop what they do not know, so a push loses its layers'
//! names, the disk usage of our engine is empty, and a document is no longer what the engine said. Here JSON stays as it
//! came; [`model`] names the parts that are read.

mod client;
pub(crate) mod model;
mod stream;

pub(crate) use client::{Docker, Query};
pub(crate) use stream::{JsonLines, body_bytes};
