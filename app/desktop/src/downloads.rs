//! Files the page gives to the user: they go to the folder for downloads, under a name nothing there has.

use tauri::{AppHandle, webview::DownloadEvent};

use crate::notification;

/// Accepts what the page itself has made and says where it went.
pub(crate) fn decide(app: &AppHandle, event: DownloadEvent<'_>) -> bool {
    match event {
        // The folder and a free name were chosen already.
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
