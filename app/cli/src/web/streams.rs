//! All streams of a page over one WebSocket.
//!
//! Text frames are JSON. From the page: `{id, open: {stream, params}}`, `{id, input}`, `{id, credit: n}`, `{id, close: true}`;
//! to it: `{id, event}`, then `{id, end: true}` or `{id, error}`. Binary frames are the stream's number (32 bits,
//! big-endian) and bytes, both ways. A stream may send as many events and binary frames as it has credit for: 64 at first,
//! then what the page grants as it takes them. So a page that is slow slows its streams and nothing grows.
//!
//! What the page sends to a stream that takes nothing now waits aside, up to a limit for the whole page: credit comes by the
//! same connection and must be read meanwhile, or both would wait for ever.

use std::{collections::HashMap, sync::Arc};

use axum::extract::ws::{Message, WebSocket};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use rorqual_backend::{
    Backend,
    stream::{Input, OpenStream, Output},
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::AbortHandle,
};

/// Frames on their way to the page.
const OUTGOING: usize = 32;
/// Streams of one page at once.
const STREAMS: usize = 256;
const INITIAL_CREDIT: usize = 64;
/// More credit than this at once is a mistake of the page.
const MOST_CREDIT: usize = 1 << 16;
/// Bytes of inputs that wait for their streams; then the page waits.
const WAITING: usize = 8 << 20;
/// Of the page's frames.
pub(super) const LARGEST_MESSAGE: usize = 4 << 20;

#[derive(Deserialize)]
struct PageFrame {
    id: u32,
    open: Option<Opening>,
    input: Option<Value>,
    credit: Option<usize>,
    #[serde(default)]
    close: bool,
}

#[derive(Deserialize)]
struct Opening {
    stream: String,
    #[serde(default)]
    params: Value,
}

/// An input on its way, with the room it takes.
type Waiting = (Input, OwnedSemaphorePermit);

/// A stream of the page: where its inputs go, what it may send, and its task.
struct Carried {
    input: mpsc::UnboundedSender<Waiting>,
    credit: Arc<Semaphore>,
    task: AbortHandle,
}

impl Carried {
    /// Lets an input wait for the stream, once there is room for it.
    async fn put(&self, input: Input, length: usize, room: &Arc<Semaphore>) {
        let length = u32::try_from(length.clamp(64, WAITING)).unwrap_or(u32::MAX);
        // The room is never closed; a stream that has ended takes nothing more.
        if let Ok(permit) = room.clone().acquire_many_owned(length).await {
            self.input.send((input, permit)).ok();
        }
    }
}

impl Drop for Carried {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves a page until it goes; its streams end with it.
pub(super) async fn serve(mut socket: WebSocket, backend: Backend) {
    let (outgoing, mut frames) = mpsc::channel::<Message>(OUTGOING);
    let mut streams: HashMap<u32, Carried> = HashMap::new();
    let room = Arc::new(Semaphore::new(WAITING));
    loop {
        tokio::select! {
            frame = frames.recv() => match frame {
                Some(frame) => if socket.send(frame).await.is_err() { return },
                None => return,
            },
            message = socket.recv() => match message {
                Some(Ok(Message::Text(text))) => {
                    let Ok(frame) = serde_json::from_str::<PageFrame>(&text) else { return };
                    take(frame, text.len(), &mut streams, &backend, &outgoing, &room).await;
                }
                Some(Ok(Message::Binary(mut bytes))) => {
                    if bytes.len() < 4 { return }
                    let id = bytes.get_u32();
                    if let Some(stream) = streams.get(&id) {
                        let length = bytes.len();
                        stream.put(Input::Bytes(bytes), length, &room).await;
                    }
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
            },
        }
        streams.retain(|_, stream| !stream.task.is_finished());
    }
}

async fn take(
    frame: PageFrame,
    length: usize,
    streams: &mut HashMap<u32, Carried>,
    backend: &Backend,
    outgoing: &mpsc::Sender<Message>,
    room: &Arc<Semaphore>,
) {
    if let Some(opening) = frame.open {
        if streams.len() == STREAMS {
            let failure = json!({"code": "too-many-streams", "message": "this page has too many streams open", "fix": "load the page again"});
            // Its own task: this one must go on reading, or nothing would make room.
            let (outgoing, text) = (outgoing.clone(), json!({"id": frame.id, "error": failure}).to_string());
            tokio::spawn(async move { outgoing.send(Message::Text(text.into())).await.ok() });
            return;
        }
        let stream = backend.open(&opening.stream, opening.params);
        let credit = Arc::new(Semaphore::new(INITIAL_CREDIT));
        let (input, waiting) = mpsc::unbounded_channel();
        tokio::spawn(pass_on(waiting, stream.input.clone()));
        let task = tokio::spawn(carry(frame.id, stream, credit.clone(), outgoing.clone())).abort_handle();
        streams.insert(frame.id, Carried { input, credit, task });
    } else if frame.close {
        streams.remove(&frame.id);
    } else if let Some(stream) = streams.get(&frame.id) {
        if let Some(more) = frame.credit {
            let room = MOST_CREDIT.saturating_sub(stream.credit.available_permits());
            stream.credit.add_permits(more.min(room));
        }
        if let Some(input) = frame.input {
            stream.put(Input::Value(input), length, room).await;
        }
    }
}

/// Gives a stream what waits for it, as it takes it; ends with the page's interest or the stream.
async fn pass_on(mut waiting: mpsc::UnboundedReceiver<Waiting>, stream: mpsc::Sender<Input>) {
    while let Some((input, _room)) = waiting.recv().await {
        if stream.send(input).await.is_err() {
            return;
        }
    }
}

/// Sends what a stream gives, as far as its credit goes.
async fn carry(id: u32, mut stream: OpenStream, credit: Arc<Semaphore>, outgoing: mpsc::Sender<Message>) {
    while let Some(output) = stream.output.recv().await {
        let frame = match output {
            Output::Failed(failure) => {
                outgoing.send(text(&json!({"id": id, "error": failure}))).await.ok();
                return;
            }
            Output::Event(event) => text(&json!({"id": id, "event": event})),
            Output::Bytes(bytes) => binary(id, &bytes),
        };
        match credit.acquire().await {
            Ok(permit) => permit.forget(),
            Err(_) => return,
        }
        if outgoing.send(frame).await.is_err() {
            return;
        }
    }
    outgoing.send(text(&json!({"id": id, "end": true}))).await.ok();
}

fn text(value: &Value) -> Message {
    Message::Text(value.to_string().into())
}

fn binary(id: u32, bytes: &Bytes) -> Message {
    let mut frame = BytesMut::with_capacity(4 + bytes.len());
    frame.put_u32(id);
    frame.extend_from_slice(bytes);
    Message::Binary(frame.freeze())
}
