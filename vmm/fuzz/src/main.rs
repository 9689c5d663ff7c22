//! Runs libFuzzer on the target that `RORQUAL_FUZZ_TARGET` names, with libFuzzer's arguments.

#![no_main]

use std::sync::OnceLock;

use rorqual_fuzz::{TARGETS, Target, target};

fn chosen() -> Target {
    static CHOSEN: OnceLock<Target> = OnceLock::new();
    *CHOSEN.get_or_init(|| {
        let name = std::env::var("RORQUAL_FUZZ_TARGET").unwrap_or_default();
        target(&name)
            .unwrap_or_else(|| panic!("RORQUAL_FUZZ_TARGET is {name:?}; there are {:?}", TARGETS.map(|(name, _)| name)))
    })
}

libfuzzer_sys::fuzz_target!(|program: &[u8]| chosen()(program));
