#!/bin/bash
# bollard's push_image() reports progress without saying of which layer, although the engine names it in every line.
#
# Software:    bollard 0.21.1 from crates.io; Debian 13's docker.io 26.1.5 and docker-registry 2.8.3
# Expectation: progress of a push carries the layer's id, as that of a pull does: layers are pushed side by side, and a
#              progress bar for each needs to know which one a line is about. The last line carries the digest.
# Behaviour:   PushImageInfo has status, progressDetail and errorDetail only, because the API's description leaves `id`
#              and `aux` out of it (CreateImageInfo, for a pull, has `id`). The engine sends both; they are dropped.
# Seen:        2026-11-30, pushing an image of one layer
#                the engine: aux id progressDetail status
#                bollard: progressDetail status
# For Rorqual: the window shows a bar for each layer, so its engine API client reads the lines itself.
#
# Needs root, mmdebstrap, python3, cargo and a C linker, Debian 12 or 13. About two minutes. Pushes over loopback only.
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
futures-util = { version = "0.3", default-features = false }
serde_json = "1"
tokio = { version = "1", features = ["macros", "rt"] }
TOML
cat > "$work/client/src/main.rs" <<'RUST'
use bollard::{API_DEFAULT_VERSION, Docker, auth::DockerCredentials, query_parameters::PushImageOptionsBuilder};
use futures_util::StreamExt;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let docker = Docker::connect_with_unix("/run/docker.sock", 30, API_DEFAULT_VERSION)?.negotiate_version().await?;
    let options = PushImageOptionsBuilder::default().tag("1").build();
    let mut lines = docker.push_image("127.0.0.1:5000/first", Some(options), Some(DockerCredentials::default()));
    while let Some(line) = lines.next().await {
        println!("{}", serde_json::to_string(&line?)?);
    }
    Ok(())
}
RUST
# Linked against this system's C library, which is no newer than that of the engine's root.
CARGO_TARGET_DIR=$work/target CARGO_PROFILE_DEV_DEBUG=0 cargo build --quiet --manifest-path "$work/client/Cargo.toml"

engine_install perl-base docker-registry=2.8.3+ds1-2+b8
cp "$work/target/debug/finding" "$work/run/"
cat > "$work/run/registry.yml" <<'YAML'
version: 0.1
storage: {filesystem: {rootdirectory: /run/registry}}
http: {addr: "127.0.0.1:5000"}
YAML
engine_run <<'SCRIPT'
docker-registry serve /run/registry.yml > /run/registry.log 2>&1 &
for _ in {1..100}; do busybox wget -q -O /run/ping http://127.0.0.1:5000/v2/ 2> /run/wget && break; sleep 0.1; done
docker tag empty:1 127.0.0.1:5000/first:1
docker tag empty:1 127.0.0.1:5000/second:1
/run/finding > /run/client
# The same push to another repository, as the engine sends it. {} in base64 is a login without name and password.
perl -MIO::Socket::UNIX -e '
  my $engine = IO::Socket::UNIX->new("/run/docker.sock") or die $!;
  print $engine "POST /v1.45/images/127.0.0.1:5000/second/push?tag=1 HTTP/1.0\r\nX-Registry-Auth: e30=\r\n\r\n";
  my $body; while (<$engine>) { print if $body; $body = 1 if $_ eq "\r\n" }
' > /run/answer
SCRIPT

keys() { python3 -c 'import json, sys; print(*sorted({key for line in sys.stdin for key in json.loads(line)}))'; }
{ echo "the engine: $(keys < "$work/run/answer")"; echo "bollard: $(keys < "$work/run/client")"; } | tee "$work/seen"
expected='the engine: aux id progressDetail status
bollard: progressDetail status'
[ "$(cat "$work/seen")" = "$expected" ] || { echo "changed: see above" >&2; exit 1; }
