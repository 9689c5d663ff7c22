#!/bin/bash
# The mock driver of rust-vmm's virtio-queue lays its used ring over its available ring.
#
# Software:    virtio-queue 0.18.0 (feature test-utils), vm-memory 0.18.0, from crates.io
# Expectation: MockSplitQueue::create lays out three separate areas, as virtio 1.3 §2.7 demands.
# Behaviour:   the end of the available ring is computed from entries, not bytes of two, so with 256 entries the used
#              ring starts inside the available ring. Descriptor numbers in the available ring's second half overwrite
#              the used ring's index and entries. Tests with few chains in flight never notice; a test that fills the
#              ring reads used buffers that no device returned.
# Seen:        2026-11-30
#                available ring 0x1000 to 0x1206, used ring from 0x1104
#                used index before any buffer is used: 255
# For Rorqual: its device tests fill queues to the brim and so bring rings of their own.
#
# Runs as any user. Needs cargo and a C linker. About 30 seconds.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/src"

cat > "$work/Cargo.toml" <<'TOML'
[package]
name = "finding"
version = "0.0.0"
edition = "2021"

[dependencies]
virtio-queue = { version = "=0.18.0", features = ["test-utils"] }
vm-memory = { version = "=0.18.0", features = ["backend-mmap"] }
TOML

cat > "$work/src/main.rs" <<'RUST'
use virtio_queue::mock::MockSplitQueue;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

const ENTRIES: u16 = 256;

fn main() {
    let memory: GuestMemoryMmap = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 1 << 16)]).unwrap();
    let queue = MockSplitQueue::create(&memory, GuestAddress(0), ENTRIES);
    let (available, used) = (queue.avail_addr().0, queue.used_addr().0);
    // Flags, index and event of two bytes each, and two bytes an entry.
    let end = available + 6 + 2 * u64::from(ENTRIES);
    println!("available ring {available:#x} to {end:#x}, used ring from {used:#x}");
    for entry in 0..ENTRIES {
        queue.avail().ring().ref_at(entry.into()).unwrap().store(255_u16.to_le());
    }
    let index: u16 = memory.read_obj(GuestAddress(used + 2)).unwrap();
    println!("used index before any buffer is used: {}", u16::from_le(index));
}
RUST

CARGO_TARGET_DIR=$work/target cargo run --quiet --manifest-path "$work/Cargo.toml" | tee "$work/seen"

expected='available ring 0x1000 to 0x1206, used ring from 0x1104
used index before any buffer is used: 255'
[ "$(cat "$work/seen")" = "$expected" ] || { echo "changed: the rings no longer overlap as described" >&2; exit 1; }
