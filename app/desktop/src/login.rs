//! Opening at login: off until the user switches it on, in the tray or by the command `open_at_login`.

use tauri::{AppHandle, plugin::TauriPlugin};
use tauri_plugin_autostart::ManagerExt;

/// Started with this the application shows no window, only its tray.
pub(crate) const HIDDEN: &str = "--hidden";

pub(crate) fn plugin() -> TauriPlugin<tauri::Wry> {
    tauri_plugin_autostart::Builder::new().app_name("Rorqual").arg(HIDDEN).build()
}

/// Whether it is on.
pub(crate) fn is_on(app: &AppHandle) -> bool {
    // What cannot be read is not there.
    app.autolaunch().is_enabled().unwrap_or(false)
}

/// Switches it.
pub(crate) fn set(app: &AppHandle, on: bool) -> Result<(), tauri_plugin_autostart::Error> {
    let login = app.autolaunch();
    if on { login.enable() } else { login.disable() }
}

/// Switches it to what it is not.
pub(crate) fn switch(app: &AppHandle) {
    if let Err(error) = set(app, !is_on(app)) {
        crate::notification::show(app, "Could not change opening at login", &error.to_string(), None);
    }
}
