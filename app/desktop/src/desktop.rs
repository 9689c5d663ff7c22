//! What the parts of the application share: the backend, what is known of the machine, and the streams of the page.

use std::sync::{Mutex, PoisonError};

use tauri::{AppHandle, Url};

use crate::{links::{self, Target}, overview::Overview};

/// Shared by every part of the application.
#[derive(Default)]
pub(crate) struct Desktop {
    overview: Mutex<Overview>,
    pub(crate) streams: Streams,
}
#[derive(Default)]
pub(crate) struct Streams;
impl Streams { pub(crate) fn close_all(&self) {} }

impl Desktop {
    pub(crate) fn overview(&self) -> Overview {
        self.overview.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
    pub(crate) fn start_machine(&self, _app: &AppHandle) {}
    pub(crate) fn stop_machine(&self, _app: &AppHandle) {}
    pub(crate) fn stop_container(&self, _app: &AppHandle, _id: String) {}
    pub(crate) fn open_published(&self, url: &Url) {
        if links::is_published(url, &self.overview().running()) {
            let _ = tauri_plugin_opener::open_url(url.as_str(), None::<&str>);
        }
    }
    pub(crate) async fn place_of(&self, target: Target) -> String {
        match target {
            Target::Container(id) => format!("/containers/{id}"),
            Target::Image(id) => format!("/images/{id}"),
        }
    }
}
pub(crate) fn tell(_app: &AppHandle, title: &str, body: &str) { eprintln!("{title}: {body}"); }
