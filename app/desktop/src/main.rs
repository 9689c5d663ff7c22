//! `rorqual-desktop`: the window, the tray and notifications around the pages of `ui/`. The backend
//! ([`rorqual_backend`]) provides data and actions; this crate adds only what a desktop needs.
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
mod follow;
mod ipc;
mod links;
mod login;
mod notices;
mod notification;
mod overview;
mod status_notifier;
mod tray;
mod window;

use std::{error::Error, process::ExitCode};

use rorqual_backend::{Backend, contract::Platform};
use rorqual_engine::{client, home::Home};
use tauri::{AppHandle, Manager, RunEvent};
use tauri_plugin_deep_link::DeepLinkExt;

use desktop::Desktop;
use links::Target;

fn main() -> ExitCode {
    let home = match Home::locate() {
        Ok(home) => home,
        Err(error) => return cannot_open(&error),
    };
    let built = tauri::Builder::default()
        // Registered first, so that a second start ends here before it has opened anything.
        .plugin(tauri_plugin_single_instance::init(|app, arguments, _| started_again(app, &arguments)))
        .plugin(tauri_plugin_deep_link::init())
        .plugin(window::state_plugin())
        .plugin(login::plugin())
        .invoke_handler(ipc::commands())
        .setup(move |app| Ok(set_up(app.handle(), home)?))
        .build(tauri::generate_context!());
    match built {
        Ok(app) => {
            app.run(|_, event| {
                // Without a window the tray remains; only an explicit exit (with a status) ends the application.
                if let RunEvent::ExitRequested { code: None, api, .. } = event {
                    api.prevent_exit();
                }
            });
            ExitCode::SUCCESS
        }
        Err(error) => cannot_open(&error),
    }
}

/// Reports why the window did not open, where a user who clicked an icon sees it.
fn cannot_open(error: &dyn Error) -> ExitCode {
    let title = "Could not open the Rorqual window";
    eprintln!("{title}: {error}");
    // On a desktop without notifications, the line above is the only report.
    notify_rust::Notification::new().appname("Rorqual").summary(title).body(&error.to_string()).show().ok();
    ExitCode::FAILURE
}

fn set_up(app: &AppHandle, home: Home) -> tauri::Result<()> {
    app.manage(notification::OnClick(|app, target| match target {
        Some(target) => window::show_target(app, target),
        None => window::show(app),
    }));
    app.manage(Desktop::new(Backend::new(home.clone(), Platform::Desktop, engine::program())));
    tray::build(app)?;
    tauri::async_runtime::spawn(start_daemon(home));
    tauri::async_runtime::spawn(follow::follow(app.clone()));
    let handle = app.clone();
    app.deep_link().on_open_url(move |event| {
        for url in event.urls() {
            follow_link(&handle, url.as_str());
        }
    });
    if !std::env::args().any(|argument| argument == login::HIDDEN) {
        window::show(app);
    }
    // The link that caused this start arrived before the listener existed.
    for url in app.deep_link().get_current().ok().flatten().unwrap_or_default() {
        follow_link(app, url.as_str());
    }
    Ok(())
}

/// Starts the daemon if none runs. The page shows the machine's state and can start it. It also shows that the daemon
/// could not be started or has ended later; the application does not undo the user's own `rorqual quit`.
async fn start_daemon(home: Home) {
    if let Err(error) = client::connect_or_start(&home, engine::daemon_command()).await {
        eprintln!("{error}");
    }
}

/// A second start shows the window of the first. The plugin for links handles a link among its arguments.
fn started_again(app: &AppHandle, arguments: &[String]) {
    if !arguments.iter().any(|argument| argument == login::HIDDEN) {
        window::show(app);
    }
}

fn follow_link(app: &AppHandle, link: &str) {
    match Target::parse(link) {
        Some(target) => window::show_target(app, target),
        None => eprintln!("not a Rorqual link: {}", link.escape_debug()),
    }
}
