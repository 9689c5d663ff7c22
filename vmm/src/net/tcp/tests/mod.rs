//! Conformance in simulated time, with a scripted guest and scripted hosts; then real sockets and a real peer.

mod closing;
mod opening;
mod transfer;
mod world;
