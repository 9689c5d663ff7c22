//! The commands the window's pages may call: the backend's calls and streams over Tauri's IPC, as in
//! `ui/src/lib/backend/tauri.ts`, and the switch for opening at login.
//!
//! Each stream is one task. It sends as many events and pieces of bytes as it has credit for: 64 at first, then what
//! the page grants as it consumes them. A fast log therefore waits for a slow page, and nothing piles up between them.
//! The page numbers its streams. They end when it closes them, and all of them end when it reloads. The page sends a
//! stream's inputs one after the other, each when the previous one was taken.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use rorqual_backend::{
    contract::{BuildEvent, Failure},
    stream::{Input, OpenStream, Output},
};
use serde_json::{Value, json};
use tauri::{
    AppHandle, State, Wry,
    ipc::{Channel, InvokeBody, InvokeResponseBody, Request},
};
use tokio::{
    sync::{Semaphore, mpsc},
    task::AbortHandle,
};

use crate::{desktop::Desktop, login, notices, notification, window};

const INITIAL_CREDIT: usize = 64;
/// Most credit a stream may hold; more is a mistake of the page.
const MOST_CREDIT: usize = 1 << 16;
/// Most streams of the page at once.
const MOST_STREAMS: usize = 256;
/// The header with the number of the stream that raw bytes belong to.
const STREAM_HEADER: &str = "stream";

/// The commands the window may call.
pub(crate) fn commands() -> impl Fn(tauri::ipc::Invoke<Wry>) -> bool + Send + Sync + 'static {
    tauri::generate_handler![call, stream_open, stream_input, stream_bytes, stream_credit, stream_close, open_at_login]
}

/// The page's open streams.
#[derive(Default)]
pub(crate) struct Streams(Mutex<HashMap<u32, Carried>>);

/// An open stream: its input, its credit and its task.
struct Carried {
    input: mpsc::Sender<Input>,
    credit: Arc<Semaphore>,
    task: AbortHandle,
}

impl Drop for Carried {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Streams {
    /// Carries `stream` to `receiver`; returns `false` if too many are open.
    fn open(&self, id: u32, stream: OpenStream, receiver: impl Receiver) -> bool {
        let mut streams = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        streams.retain(|_, stream| !stream.task.is_finished());
        if streams.len() >= MOST_STREAMS {
            return false;
        }
        let (input, credit) = (stream.input.clone(), Arc::new(Semaphore::new(INITIAL_CREDIT)));
        let task = tokio::spawn(carry(stream, credit.clone(), receiver)).abort_handle();
        streams.insert(id, Carried { input, credit, task });
        true
    }

    fn input(&self, id: u32) -> Option<mpsc::Sender<Input>> {
        let streams = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        streams.get(&id).map(|stream| stream.input.clone())
    }

    fn grant(&self, id: u32, more: usize) {
        let streams = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stream) = streams.get(&id) {
            let room = MOST_CREDIT.saturating_sub(stream.credit.available_permits());
            stream.credit.add_permits(more.min(room));
        }
    }

    fn close(&self, id: u32) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    /// Ends all of them.
    pub(crate) fn close_all(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// Receives a stream's outputs.
trait Receiver: Send + 'static {
    /// Sends a frame; returns `false` if the receiver is gone.
    fn send(&self, frame: InvokeResponseBody) -> bool;
    /// Sees an event before it is sent.
    fn see(&self, event: &Value);
}

/// The page.
struct Page {
    app: AppHandle,
    channel: Channel<InvokeResponseBody>,
    stream: String,
}

impl Receiver for Page {
    fn send(&self, frame: InvokeResponseBody) -> bool {
        self.channel.send(frame).is_ok()
    }

    fn see(&self, event: &Value) {
        if self.stream != "build.run" || event.get("kind").is_none_or(|kind| kind != "finished") {
            return;
        }
        if let Ok(BuildEvent::Finished { record }) = serde_json::from_value(event.clone())
            && let Some(notice) = notices::build(&record)
            && !window::is_in_front(&self.app)
        {
            notification::notice(&self.app, notice);
        }
    }
}

/// Sends a stream's output as far as its credit allows.
async fn carry(mut stream: OpenStream, credit: Arc<Semaphore>, receiver: impl Receiver) {
    let json = |frame: &Value| InvokeResponseBody::Json(frame.to_string());
    while let Some(output) = stream.output.recv().await {
        let frame = match output {
            Output::Failed(failure) => {
                receiver.send(json(&json!({ "error": failure })));
                return;
            }
            Output::Event(event) => {
                receiver.see(&event);
                json(&json!({ "event": event }))
            }
            Output::Bytes(bytes) => InvokeResponseBody::Raw(bytes.into()),
        };
        match credit.acquire().await {
            Ok(permit) => permit.forget(),
            Err(_) => return,
        }
        if !receiver.send(frame) {
            return;
        }
    }
    receiver.send(json(&json!({ "end": true })));
}

#[tauri::command]
async fn call(desktop: State<'_, Desktop>, name: String, params: Value) -> Result<Value, Failure> {
    desktop.backend.call(&name, params).await
}

#[tauri::command]
async fn stream_open(
    app: AppHandle,
    desktop: State<'_, Desktop>,
    id: u32,
    name: String,
    params: Value,
    channel: Channel<InvokeResponseBody>,
) -> Result<(), Failure> {
    let stream = desktop.backend.open(&name, params);
    if desktop.streams.open(id, stream, Page { app, channel, stream: name }) {
        return Ok(());
    }
    Err(Failure {
        code: "too-many-streams".to_owned(),
        message: "This page has too many streams open.".to_owned(),
        fix: Some("Close some of its terminals or logs.".to_owned()),
    })
}

#[tauri::command]
async fn stream_input(desktop: State<'_, Desktop>, id: u32, input: Value) -> Result<(), Failure> {
    give(&desktop, id, Input::Value(input)).await;
    Ok(())
}

/// The body consists of the raw bytes, so a header carries the stream's number.
#[tauri::command]
async fn stream_bytes(desktop: State<'_, Desktop>, request: Request<'_>) -> Result<(), Failure> {
    let id = request.headers().get(STREAM_HEADER).and_then(|id| id.to_str().ok()?.parse().ok());
    let (Some(id), InvokeBody::Raw(bytes)) = (id, request.body()) else {
        return Err(Failure {
            code: "bad-request".to_owned(),
            message: "Bytes for a stream arrived without its number.".to_owned(),
            fix: None,
        });
    };
    give(&desktop, id, Input::Bytes(Bytes::copy_from_slice(bytes))).await;
    Ok(())
}

/// Waits until the stream takes the input, so that an upload does not pile up. A stream that has ended ignores it.
async fn give(desktop: &Desktop, id: u32, input: Input) {
    if let Some(inputs) = desktop.streams.input(id) {
        inputs.send(input).await.ok();
    }
}

#[tauri::command]
async fn stream_credit(desktop: State<'_, Desktop>, id: u32, events: usize) -> Result<(), Failure> {
    desktop.streams.grant(id, events);
    Ok(())
}

#[tauri::command]
async fn stream_close(desktop: State<'_, Desktop>, id: u32) -> Result<(), Failure> {
    desktop.streams.close(id);
    Ok(())
}

/// Returns whether Rorqual opens at login, after changing it if `on` is given.
#[tauri::command]
async fn open_at_login(app: AppHandle, on: Option<bool>) -> Result<bool, Failure> {
    if let Some(on) = on {
        login::set(&app, on).map_err(|error| Failure {
            code: "login-unchanged".to_owned(),
            message: format!("Could not change opening at login: {error}."),
            fix: None,
        })?;
    }
    Ok(login::is_on(&app))
}
