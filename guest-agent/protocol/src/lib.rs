//! The contract between the host and the guest agent: the gRPC service of `agent.proto` on vsock port 1024, the
//! one-line header of a forwarded stream on port 1025 ([`forward`]), and dockerd's environment ([`environment`]).

/// Types, client and server generated from `agent.proto`.
#[allow(missing_docs, clippy::pedantic)]
pub mod agent {
    tonic::include_proto!("rorqual.agent.v1");
}
pub mod environment;
pub mod forward;

/// Context identifier of the host on every vsock (virtio 1.3 §5.10.4).
pub const HOST_CID: u32 = 2;
/// vsock port of the guest on which the agent serves gRPC.
pub const AGENT_PORT: u32 = 1024;
/// vsock port of the guest on which streams to container addresses are forwarded.
pub const FORWARD_PORT: u32 = 1025;
/// vsock port of the guest that carries the Docker socket.
pub const DOCKER_PORT: u32 = 2375;
/// vsock port of the host to which the agent connects once its gRPC answers, and again when the engine does: the
/// connection is the message and carries no bytes. The host need not listen.
pub const READY_PORT: u32 = 1024;
/// vsock port of the host that provides dockerd's environment ([`environment`]).
pub const ENVIRONMENT_PORT: u32 = 1026;
