//! The commands the window's pages may call: the backend's calls and streams over Tauri's IPC, as in
//! `ui/src/lib/backend/tauri.ts`, and the switch for opening at login.
//!
//! The page sends a stream's inputs one after the other, each when the previous one was taken. All streams end when it
//! reloads.

use bytes::Bytes;
use rorqual_backend::{
    contract::{BuildEvent, Failure},
    stream::{Frame, Input, Receiver},
};
use serde_json::Value;
use tauri::{
    AppHandle, State, Wry,
    ipc::{Channel, InvokeBody, InvokeResponseBody, Request},
};

use crate::{desktop::Desktop, login, notices, notification, window};

/// The header with the number of the stream that raw bytes belong to.
const STREAM_HEADER: &str = "stream";

/// The commands the window may call.
pub(crate) fn commands() -> impl Fn(tauri::ipc::Invoke<Wry>) -> bool + Send + Sync + 'static {
    tauri::generate_handler![call, stream_open, stream_input, stream_bytes, stream_credit, stream_close, open_at_login]
}

/// The page's end of a stream.
struct Page {
    app: AppHandle,
    channel: Channel<InvokeResponseBody>,
    stream: String,
}

impl Receiver for Page {
    async fn send(&self, frame: Frame) -> bool {
        let body = match frame {
            Frame::Message(message) => InvokeResponseBody::Json(message.to_string()),
            Frame::Bytes(bytes) => InvokeResponseBody::Raw(bytes.into()),
        };
        self.channel.send(body).is_ok()
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
    let page = Page { app, channel, stream: name.clone() };
    desktop.streams.open(id, || desktop.backend.open(&name, params), page)
}

#[tauri::command]
async fn stream_input(desktop: State<'_, Desktop>, id: u32, input: Value) -> Result<(), Failure> {
    desktop.streams.give(id, Input::Value(input)).await;
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
    desktop.streams.give(id, Input::Bytes(Bytes::copy_from_slice(bytes))).await;
    Ok(())
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
