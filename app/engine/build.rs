//! Generates the gRPC types of `proto/engine.proto`.

fn main() -> std::io::Result<()> {
    tonic_prost_build::configure().compile_protos(&["proto/engine.proto"], &["proto"])
}
