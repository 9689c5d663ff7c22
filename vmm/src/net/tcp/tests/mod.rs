//! Conformance in simulated time, with a scripted guest and scripted hosts; then real sockets and a real peer.

mod closing;
mod dormant;
mod hostile;
mod limits;
mod loopback;
mod opening;
mod peer;
mod throughput;
mod transfer;
mod world;
