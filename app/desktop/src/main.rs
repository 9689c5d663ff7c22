//! `rorqual-desktop`: the window, the tray and notifications, around the pages of `ui/`. What is done and shown comes from
//! [`rorqual_engine::backend`]; here is only what a desktop needs besides.
//!
//! Tauri's main thread owns the window and the tray. One task follows the engine for the tray and the notifications
//! ([`follow`]); each stream the page opens is one task ([`ipc`]).

// A window has no console on Windows.
#![cfg_attr(not(debug_assertions), windows_subsystem = "windows")]

mod desktop;
mod downloads;
mod engine;
#[cfg(test)]
mod fixtures;
mod links;
mod login;
mod notices;
mod overview;
mod status_notifier;
mod tray;
mod window;

use std::process::ExitCode;

use tauri::{AppHandle, Manager, RunEvent};
use tauri_plugin_deep_link::DeepLinkExt;

use desktop::Desktop;
use links::Target;

fn main() -> ExitCode {
    let built = tauri::Builder::default()
        // First: a second start ends here, before it has opened anything.
        .plugin(tauri_plugin_single_instance::init(|app, arguments, _| started_again(app, &arguments)))
        .plugin(tauri_plugin_deep_link::init())
        .plugin(window::state_plugin())
        .plugin(login::plugin())
        .manage(Desktop::default())
        .setup(|app| Ok(set_up(app.handle())?))
        .build(tauri::generate_context!());
    match built {
        Ok(app) => {
            app.run(|_, event| {
                // Without a window there is still the tray; only a request to end (with a status) ends.
                if let RunEvent::ExitRequested { code: None, api, .. } = event {
                    api.prevent_exit();
                }
            });
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("Rorqual's window cannot be opened: {error}");
            ExitCode::FAILURE
        }
    }
}

fn set_up(app: &AppHandle) -> tauri::Result<()> {
    tray::build(app)?;
    let handle = app.clone();
    app.deep_link().on_open_url(move |event| {
        for url in event.urls() {
            follow_link(&handle, url.as_str());
        }
    });
    if !std::env::args().any(|argument| argument == login::HIDDEN) {
        window::show(app);
    }
    Ok(())
}

/// A second start shows the window of the first; a link among its arguments has gone to the plugin for links.
fn started_again(app: &AppHandle, arguments: &[String]) {
    if !arguments.iter().any(|argument| argument == login::HIDDEN) {
        window::show(app);
    }
}

fn follow_link(app: &AppHandle, link: &str) {
    match Target::parse(link) {
        Some(target) => window::show_target(app, target),
        None => eprintln!("not a link of Rorqual: {}", link.escape_debug()),
    }
}
