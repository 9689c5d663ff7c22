//! Files the page gives to the user. They go to the download folder, under a free name.

use tauri::{AppHandle, webview::DownloadEvent};

use crate::notification;

/// Accepts files created by the page itself and notifies the user where they were saved.
pub(crate) fn decide(app: &AppHandle, event: DownloadEvent<'_>) -> bool {
    match event {
        // The folder and a free name have been chosen already.
        DownloadEvent::Requested { url, .. } => url.scheme() == "blob",
        DownloadEvent::Finished { path, success, .. } => {
            match path {
                Some(path) if success => notification::show(app, "Saved", &path.display().to_string(), None),
                _ => notification::show(
                    app,
                    "Could not save the file",
                    "Check the free space in the download folder.",
                    None,
                ),
            }
            true
        }
        _ => false,
    }
}
