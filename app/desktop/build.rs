//! Embeds the pages, and lets the window call the commands named here and in capabilities/main.json, no other.

use tauri_build::{AppManifest, Attributes};

const COMMANDS: &[&str] =
    &["call", "stream_open", "stream_input", "stream_bytes", "stream_credit", "stream_close", "open_at_login"];

fn main() {
    let attributes = Attributes::new().app_manifest(AppManifest::new().commands(COMMANDS));
    if let Err(error) = tauri_build::try_build(attributes) {
        println!("cargo::error={error:#}");
    }
}
