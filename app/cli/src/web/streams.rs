//! All streams of a page over one WebSocket (docs/contracts.md, "The pages' server").
//!
//! Text frames are JSON, with the stream's number as `id`. Binary frames are the stream's number (32 bits, big-endian)
//! followed by bytes. Input for a stream that is busy is queued, up to a limit for the whole page: credit arrives on
//! the same connection and must still be read, or both sides would deadlock.

use axum::extract::ws::{Message, WebSocket};
use bytes::{Buf, BufMut, BytesMut};
use rorqual_backend::{
    Backend,
    stream::{Frame, Input, Receiver, Streams},
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// Maximum number of frames queued for the page.
const MAX_OUTGOING: usize = 32;
/// Maximum length of a frame from the page, in bytes.
pub(super) const MAX_MESSAGE: usize = 4 << 20;

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

/// Sends a stream's frames to the page.
struct ToPage {
    id: u32,
    outgoing: mpsc::Sender<Message>,
}

impl Receiver for ToPage {
    async fn send(&self, frame: Frame) -> bool {
        let message = match frame {
            Frame::Message(message) => text(self.id, message),
            Frame::Bytes(bytes) => {
                let mut frame = BytesMut::with_capacity(4 + bytes.len());
                frame.put_u32(self.id);
                frame.extend_from_slice(&bytes);
                Message::Binary(frame.freeze())
            }
        };
        self.outgoing.send(message).await.is_ok()
    }
}

/// Serves a page until it disconnects; its streams end with it.
pub(super) async fn serve(mut socket: WebSocket, backend: Backend) {
    let (outgoing, mut frames) = mpsc::channel::<Message>(MAX_OUTGOING);
    let streams = Streams::default();
    loop {
        tokio::select! {
            frame = frames.recv() => match frame {
                Some(frame) => if socket.send(frame).await.is_err() { return },
                None => return,
            },
            message = socket.recv() => match message {
                Some(Ok(Message::Text(text))) => {
                    let Ok(frame) = serde_json::from_str::<PageFrame>(&text) else { return };
                    take(frame, text.len(), &streams, &backend, &outgoing).await;
                }
                Some(Ok(Message::Binary(mut bytes))) => {
                    if bytes.len() < 4 { return }
                    let (id, length) = (bytes.get_u32(), bytes.len());
                    streams.queue(id, Input::Bytes(bytes), length).await;
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
            },
        }
    }
}

async fn take(frame: PageFrame, length: usize, streams: &Streams, backend: &Backend, outgoing: &mpsc::Sender<Message>) {
    let PageFrame { id, open, input, credit, close } = frame;
    if let Some(opening) = open {
        let open = || backend.open(&opening.stream, opening.params);
        if let Err(failure) = streams.open(id, open, ToPage { id, outgoing: outgoing.clone() }) {
            // Runs in its own task: this one must keep reading, or no room would ever be made.
            let (outgoing, message) = (outgoing.clone(), text(id, json!({ "error": failure })));
            tokio::spawn(async move { outgoing.send(message).await.ok() });
        }
    } else if close {
        streams.close(id);
    } else {
        if let Some(more) = credit {
            streams.grant(id, more);
        }
        if let Some(input) = input {
            streams.queue(id, Input::Value(input), length).await;
        }
    }
}

/// Builds a text frame: the message of stream `id`.
fn text(id: u32, mut message: Value) -> Message {
    if let Some(fields) = message.as_object_mut() {
        fields.insert("id".to_owned(), id.into());
    }
    Message::Text(message.to_string().into())
}
