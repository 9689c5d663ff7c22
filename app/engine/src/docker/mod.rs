//! A client of the Docker Engine's API, as far as the window and the names of containers use it: requests over the Unix
//! socket, one connection each.
//!
//! Why not bollard: its models follow the newest engine and drop unknown fields, so a push loses its layers' names, the
//! disk usage of our engine is empty, and documents are incomplete. Here JSON stays as received; [`model`] types the
//! fields that are read.

mod client;
mod error;
pub mod model;
mod stream;

pub use client::{Docker, Query};
pub use error::DockerError;
pub use stream::{JsonLines, body_bytes};
