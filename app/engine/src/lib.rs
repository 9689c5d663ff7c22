//! The host side of Rorqual.

/// Types, client and server generated from `proto/engine.proto`.
#[allow(missing_docs, clippy::pedantic)]
pub mod api {
    tonic::include_proto!("rorqual.engine.v1");
}
