//! Fuzz targets of the machine monitor. Each reads bytes as a small program: what a hostile guest writes to its memory,
//! queues and registers, and what programs on the host do meanwhile. A panic is a finding, and so is a breach of the
//! rules of [`guest`].
//!
//! `make fuzz` drives them with libFuzzer and coverage. The test of this crate only replays `seeds/`: small programs
//! that reach far, and each input that once found a defect.

// Here a panic is a finding, or means that the host cannot run the target.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod balloon;
mod block;
mod console;
mod dns;
mod frames;
mod gateway;
pub mod guest;
mod mmio;
mod net;
mod parsers;
pub mod program;
mod relay;
mod rng;
mod scratch;
mod tcp;
mod vsock;

/// One target: runs a program to its end.
pub type Target = fn(&[u8]);

/// All targets by name.
pub const TARGETS: [(&str, Target); 13] = [
    ("balloon", balloon::run),
    ("block", block::run),
    ("console", console::run),
    ("dns", dns::run),
    ("frames", frames::run),
    ("gateway", gateway::run),
    ("mmio", mmio::run),
    ("net", net::run),
    ("parsers", parsers::run),
    ("relay", relay::run),
    ("rng", rng::run),
    ("tcp", tcp::run),
    ("vsock", vsock::run),
];

/// The target of that name.
pub fn target(name: &str) -> Option<Target> {
    TARGETS.iter().find(|(known, _)| *known == name).map(|(_, target)| *target)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_seed_keeps_the_rules() {
        for (name, target) in TARGETS {
            let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(name);
            let mut count = 0;
            for seed in fs::read_dir(&seeds).unwrap() {
                target(&fs::read(seed.unwrap().path()).unwrap());
                count += 1;
            }
            assert!(count > 0, "{} is empty", seeds.display());
        }
    }
}
