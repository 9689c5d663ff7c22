#!/bin/bash
# bollard's df() on Docker 26 succeeds and returns nothing, although the engine answers in full.
#
# Software:    bollard 0.21.1 from crates.io; Debian 13's docker.io 26.1.5 (API 1.45)
# Expectation: after negotiate_version() the client speaks API 1.45, so df() returns the images, containers, volumes and
#              build cache that GET /v1.45/system/df describes, or an error.
# Behaviour:   the models follow API 1.53 whatever version was negotiated. The answer's fields of 1.45 (LayersSize,
#              Images, Containers, Volumes, BuildCache) are not among them, every field of the model is optional, and
#              serde drops what it does not know: Ok, with all fields None.
# Seen:        2026-11-30, an engine with one image
#                the engine: BuildCache Containers Images LayersSize Volumes
#                bollard, API 1.45: {}
# For Rorqual: its engine API client keeps JSON as it came, because its own engine is older than bollard's models.
#
# Needs root, mmdebstrap, python3, cargo and a C linker, Debian 12 or 13. About two minutes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf --one-file-system "$work"' EXIT
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/engine.bash"

mkdir -p "$work/client/src"
cat > "$work/client/Cargo.toml" <<'TOML'
[package]
name = "finding"
version = "0.0.0"
edition = "2024"

[dependencies]
bollard = { version = "=0.21.1", default-features = false, features = ["pipe"] }
serde_json = "1"
tokio = { version = "1", features = ["macros", "rt"] }
TOML
cat > "$work/client/src/main.rs" <<'RUST'
use bollard::{API_DEFAULT_VERSION, Docker, query_parameters::DataUsageOptions};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let docker = Docker::connect_with_unix("/run/docker.sock", 30, API_DEFAULT_VERSION)?.negotiate_version().await?;
    let usage = docker.df(None::<DataUsageOptions>).await?;
    println!("bollard, API {}: {}", docker.client_version(), serde_json::to_string(&usage)?);
    Ok(())
}
RUST
# Linked against this system's C library, which is no newer than that of the engine's root.
CARGO_TARGET_DIR=$work/target CARGO_PROFILE_DEV_DEBUG=0 cargo build --quiet --manifest-path "$work/client/Cargo.toml"

engine_install perl-base
cp "$work/target/debug/finding" "$work/run/"
engine_run <<'SCRIPT'
perl -MIO::Socket::UNIX -e '
  my $engine = IO::Socket::UNIX->new("/run/docker.sock") or die $!;
  print $engine "GET /v1.45/system/df HTTP/1.0\r\n\r\n";
  print <$engine>;
' > /run/answer
/run/finding > /run/client
SCRIPT

keys=$(python3 -c '
import json, sys
print(*sorted(json.loads(sys.stdin.buffer.read().split(b"\r\n\r\n", 1)[1])))' < "$work/run/answer")
{ echo "the engine: $keys"; cat "$work/run/client"; } | tee "$work/seen"
expected='the engine: BuildCache Containers Images LayersSize Volumes
bollard, API 1.45: {}'
[ "$(cat "$work/seen")" = "$expected" ] || { echo "changed: see above" >&2; exit 1; }
