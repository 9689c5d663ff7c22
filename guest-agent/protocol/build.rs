//! Generates the gRPC types of `agent.proto`.

fn main() -> std::io::Result<()> {
    tonic_prost_build::configure().compile_protos(&["agent.proto"], &["."])
}
