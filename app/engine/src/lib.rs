//! The host side of Rorqual: machines, the Docker socket, published ports, settings, diagnostics, and the daemon that
//! owns them.
//!
//! One daemon per user ([`daemon`]) serves [`api`] on `run/engine.sock` and the guest's Docker socket on
//! `run/docker.sock` ([`docker_socket`]). Each machine is one task that owns its state ([`machine`]); other parts send
//! it commands and watch the state it publishes. Nothing polls: processes, logs, ports and clocks are watched.

/// Types, client and server generated from `proto/engine.proto`.
#[allow(missing_docs, clippy::pedantic)]
pub mod api {
    tonic::include_proto!("rorqual.engine.v1");
}
pub mod client;
pub mod config;
pub mod daemon;
mod detached;
pub mod disk;
pub mod docker;
pub mod docker_socket;
pub mod doctor;
pub mod error;
mod follow;
pub mod home;
pub mod image;
pub mod machine;
mod monitor;
pub mod ports;
pub mod proxy;
pub mod routes;
mod splice;
mod vsock;
