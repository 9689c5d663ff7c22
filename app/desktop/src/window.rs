//! The window: created when first shown, hidden when closed, and kept on its own pages.

use tauri::{
    AppHandle, Manager, Url, WebviewUrl, WebviewWindow, WebviewWindowBuilder, WindowEvent,
    webview::{NewWindowResponse, PageLoadEvent},
};
use tauri_plugin_window_state::StateFlags;

use crate::{desktop::Desktop, links::Target, status_notifier};

/// Its label, as in capabilities/main.json.
pub(crate) const LABEL: &str = "main";

/// Saves size, position, maximized and full-screen state, but not visibility, which each start decides.
pub(crate) fn state_plugin() -> tauri::plugin::TauriPlugin<tauri::Wry> {
    let kept = StateFlags::SIZE | StateFlags::POSITION | StateFlags::MAXIMIZED | StateFlags::FULLSCREEN;
    tauri_plugin_window_state::Builder::new().with_state_flags(kept).build()
}

/// Shows the window, in front.
pub(crate) fn show(app: &AppHandle) {
    let shown = match app.get_webview_window(LABEL) {
        Some(window) => raise(&window),
        None => build(app).and_then(|window| raise(&window)),
    };
    if let Err(error) = shown {
        eprintln!("could not show the window: {error}");
    }
}

/// Shows the window at the target of a link or a notification.
pub(crate) fn show_target(app: &AppHandle, target: Target) {
    show(app);
    let app = app.clone();
    tauri::async_runtime::spawn(async move {
        let place = app.state::<Desktop>().place_of(target).await;
        let Some(window) = app.get_webview_window(LABEL) else { return };
        // The page's address after the number sign. A page that is still loading reads it when it starts.
        if let Err(error) = window.eval(format!("location.hash = {}", serde_json::Value::from(place))) {
            eprintln!("could not show the linked page: {error}");
        }
    });
}

/// Whether the window is visible and focused.
pub(crate) fn is_in_front(app: &AppHandle) -> bool {
    app.get_webview_window(LABEL)
        .is_some_and(|window| window.is_visible().unwrap_or(false) && window.is_focused().unwrap_or(false))
}

fn raise(window: &WebviewWindow) -> tauri::Result<()> {
    window.show()?;
    window.unminimize()?;
    window.set_focus()
}

fn build(app: &AppHandle) -> tauri::Result<WebviewWindow> {
    let (opener, downloads) = (app.clone(), app.clone());
    let window = WebviewWindowBuilder::new(app, LABEL, WebviewUrl::default())
        .title("Rorqual")
        .inner_size(1280.0, 800.0)
        .min_inner_size(900.0, 600.0)
        .visible(false)
        // The page itself handles dropped files and uploads them.
        .disable_drag_drop_handler()
        .on_navigation(is_own_page)
        .on_new_window(move |url, _| {
            opener.state::<Desktop>().open_published(&opener, &url);
            NewWindowResponse::Deny
        })
        .on_page_load(|window, load| {
            // A reloaded page does not know the streams it had.
            if load.event() == PageLoadEvent::Started {
                window.state::<Desktop>().streams.close_all();
            }
        })
        .on_download(move |_, event| crate::downloads::decide(&downloads, event))
        .build()?;
    let handle = app.clone();
    window.on_window_event(move |event| {
        if let WindowEvent::CloseRequested { api, .. } = event {
            api.prevent_close();
            close(&handle);
        }
    });
    Ok(window)
}

/// Hides the window in the tray. Without a tray nothing could bring it back, so the application exits.
fn close(app: &AppHandle) {
    let app = app.clone();
    tauri::async_runtime::spawn(async move {
        let hidden = match app.get_webview_window(LABEL) {
            Some(window) if status_notifier::has_host().await => window.hide(),
            _ => return app.exit(0),
        };
        if let Err(error) = hidden {
            eprintln!("could not hide the window: {error}");
        }
    });
}

/// Whether `url` is part of the pages the window was built with.
fn is_own_page(url: &Url) -> bool {
    match url.scheme() {
        "tauri" => url.host_str() == Some("localhost"),
        // A download created by the page.
        "blob" => url.path().starts_with("tauri://localhost/"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_stays_on_its_own_pages() {
        let own = |url: &str| is_own_page(&url.parse().unwrap());
        assert!(own("tauri://localhost/index.html#/images"));
        assert!(own("blob:tauri://localhost/4f3c"));
        for url in
            ["http://localhost:8080/", "https://example.org/", "file:///etc/passwd", "data:text/html,x", "about:blank"]
        {
            assert!(!own(url), "{url}");
        }
    }
}
