//! State shared by the parts of the application: the backend, the known state of the machine, and the page's streams.
//! Actions of the tray go through here to the backend; a failure becomes a notification.

use std::sync::{Mutex, PoisonError};

use rorqual_backend::{
    Backend,
    contract::{ContainerTarget, ImageTarget, MachineStart, MachineStop},
    stream::{Output, Streams},
};
use rorqual_engine::home::DEFAULT_MACHINE;
use serde::Serialize;
use serde_json::{Value, json};
use tauri::{AppHandle, Url};

use crate::{
    links::{self, Target},
    notification,
    overview::Overview,
};

/// Shared by every part of the application.
pub(crate) struct Desktop {
    pub(crate) backend: Backend,
    pub(crate) streams: Streams,
    overview: Mutex<Overview>,
}

impl Desktop {
    pub(crate) fn new(backend: Backend) -> Self {
        Self { backend, streams: Streams::default(), overview: Mutex::default() }
    }

    /// The known state.
    pub(crate) fn overview(&self) -> Overview {
        self.overview.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Updates the known state and returns it.
    pub(crate) fn learn(&self, take: impl FnOnce(&mut Overview)) -> Overview {
        let mut overview = self.overview.lock().unwrap_or_else(PoisonError::into_inner);
        take(&mut overview);
        overview.clone()
    }

    pub(crate) fn start_machine(&self, app: &AppHandle) {
        let start = MachineStart { machine: DEFAULT_MACHINE.to_owned(), cold: false };
        self.carry_out(app, "Could not start the machine", "machine.start", &start);
    }

    pub(crate) fn stop_machine(&self, app: &AppHandle) {
        let stop = MachineStop { machine: DEFAULT_MACHINE.to_owned(), force: false };
        self.carry_out(app, "Could not stop the machine", "machine.stop", &stop);
    }

    pub(crate) fn stop_container(&self, app: &AppHandle, id: String) {
        let (backend, app) = (self.backend.clone(), app.clone());
        tauri::async_runtime::spawn(async move {
            if let Err(failure) = backend.call("container.stop", json!(ContainerTarget { id })).await {
                notification::failure(&app, "Could not stop the container", &failure);
            }
        });
    }

    /// Opens a page of a published port in the browser; ignores any other address.
    pub(crate) fn open_published(&self, app: &AppHandle, url: &Url) {
        if !links::is_published(url, &self.overview().running()) {
            eprintln!("not opened, because no container publishes it: {}", url.as_str().escape_debug());
            return;
        }
        if let Err(error) = tauri_plugin_opener::open_url(url.as_str(), None::<&str>) {
            notification::show(app, "Could not open the browser", &error.to_string(), None);
        }
    }

    /// The address in the pages that shows `target`, which they know by its full identifier.
    pub(crate) async fn place_of(&self, target: Target) -> String {
        let (view, call, name, params) = match target {
            Target::Container(id) => ("containers", "container.inspect", id.clone(), json!(ContainerTarget { id })),
            Target::Image(image) => ("images", "image.inspect", image.clone(), json!(ImageTarget { image })),
        };
        let field = |found: &Value| found.pointer("/container/id").or(found.pointer("/image/id")).cloned();
        // The page also opens an object that does not exist, and reports that.
        let id = self.backend.call(call, params).await.ok().as_ref().and_then(field);
        let id = id.and_then(|id| id.as_str().map(str::to_owned)).unwrap_or(name);
        format!("/{view}/{}", percent_encoding::utf8_percent_encode(&id, percent_encoding::NON_ALPHANUMERIC))
    }

    /// Runs a stream of steps to its end. `machine.stop` and `machine.start` continue without a reader.
    fn carry_out(&self, app: &AppHandle, failed: &'static str, name: &'static str, params: &impl Serialize) {
        let (backend, app, params) = (self.backend.clone(), app.clone(), json!(params));
        tauri::async_runtime::spawn(async move {
            let mut steps = backend.open(name, params);
            while let Some(step) = steps.output.recv().await {
                if let Output::Failed(failure) = step {
                    notification::failure(&app, failed, &failure);
                }
            }
        });
    }
}
