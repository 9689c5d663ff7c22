//! The streams of one page, carried over a transport: the open ones, their credit, and the routing of their inputs.
//!
//! A stream may send as many events and pieces of bytes as it has credit for: 64 at first, then what the page grants as
//! it consumes them. A slow page thus slows its streams, and nothing accumulates between them. The page numbers its
//! streams; a stream ends when the page closes it, and all end when their [`Streams`] is dropped.

use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::AbortHandle,
};

use super::open::{Input, OpenStream, Output};
use crate::{contract::Failure, failure};

/// Initial credit of a stream, in events and pieces of bytes.
const INITIAL_CREDIT: usize = 64;
/// Maximum credit of a stream. Grants beyond it are a defect of the page and are capped.
const MAX_CREDIT: usize = 1 << 16;
/// Maximum number of open streams of one page.
const MAX_STREAMS: usize = 256;
/// Maximum size of one page's queued inputs, in bytes.
const MAX_QUEUED: usize = 8 << 20;
/// Minimum charge for a queued input, in bytes.
const MIN_QUEUED: usize = 64;

/// A frame from a stream to the page.
#[derive(Clone, Debug, PartialEq)]
pub enum Frame {
    /// An object with one key: `event`, or finally `error` or `end`.
    Message(Value),
    /// Raw bytes.
    Bytes(Bytes),
}

/// The page's end of a stream.
pub trait Receiver: Send + 'static {
    /// Sends a frame once the transport has room. Returns false when the receiver is gone.
    fn send(&self, frame: Frame) -> impl Future<Output = bool> + Send;

    /// Inspects an event when the stream sends it, before it waits for credit.
    fn see(&self, event: &Value) {
        let _ = event;
    }
}

/// The streams of one page. Dropping this ends them.
#[derive(Debug)]
pub struct Streams {
    open: Mutex<HashMap<u32, Carried>>,
    /// Free room in the queues, in bytes.
    room: Arc<Semaphore>,
}

/// A queued input, with the room it occupies.
type Queued = (Input, OwnedSemaphorePermit);

/// One stream: its inputs, its credit, and its task.
#[derive(Debug)]
struct Carried {
    input: mpsc::Sender<Input>,
    queue: mpsc::UnboundedSender<Queued>,
    credit: Arc<Semaphore>,
    task: AbortHandle,
}

impl Drop for Carried {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Default for Streams {
    fn default() -> Self {
        Self { open: Mutex::default(), room: Arc::new(Semaphore::new(MAX_QUEUED)) }
    }
}

impl Streams {
    /// Opens a stream under the page's number and sends its outputs to `receiver`. Must be called within a runtime.
    ///
    /// # Errors
    ///
    /// `too-many-streams`: the page already has 256 open streams.
    pub fn open(&self, id: u32, open: impl FnOnce() -> OpenStream, receiver: impl Receiver) -> Result<(), Failure> {
        let mut streams = self.lock();
        streams.retain(|_, stream| !stream.task.is_finished());
        if streams.len() >= MAX_STREAMS {
            return Err(failure::advised!(
                "too-many-streams",
                "this page has too many streams open",
                "close some of its terminals or logs, then try again"
            ));
        }
        let stream = open();
        let (input, credit) = (stream.input.clone(), Arc::new(Semaphore::new(INITIAL_CREDIT)));
        let (queue, queued) = mpsc::unbounded_channel();
        tokio::spawn(pass_on(queued, input.clone()));
        let task = tokio::spawn(carry(stream, Arc::clone(&credit), receiver)).abort_handle();
        streams.insert(id, Carried { input, queue, credit, task });
        Ok(())
    }

    /// Passes an input to a stream and returns once the stream has taken it. Inputs to an ended stream are dropped.
    pub async fn give(&self, id: u32, input: Input) {
        let stream = self.lock().get(&id).map(|stream| stream.input.clone());
        if let Some(stream) = stream {
            stream.send(input).await.ok();
        }
    }

    /// Queues an input for a stream and returns once the page's queues have room for it. `length` is its size in bytes.
    pub async fn queue(&self, id: u32, input: Input, length: usize) {
        let Some(queue) = self.lock().get(&id).map(|stream| stream.queue.clone()) else { return };
        let length = u32::try_from(length.clamp(MIN_QUEUED, MAX_QUEUED)).unwrap_or(u32::MAX);
        // The semaphore is never closed, and an ended stream takes no inputs.
        if let Ok(permit) = Arc::clone(&self.room).acquire_many_owned(length).await {
            queue.send((input, permit)).ok();
        }
    }

    /// Grants a stream credit for `more` events and pieces of bytes.
    pub fn grant(&self, id: u32, more: usize) {
        if let Some(stream) = self.lock().get(&id) {
            let room = MAX_CREDIT.saturating_sub(stream.credit.available_permits());
            stream.credit.add_permits(more.min(room));
        }
    }

    /// Ends a stream.
    pub fn close(&self, id: u32) {
        self.lock().remove(&id);
    }

    /// Ends all streams.
    pub fn close_all(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u32, Carried>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forwards queued inputs as the stream takes them. Ends with the stream, or when the page closes it.
async fn pass_on(mut queued: mpsc::UnboundedReceiver<Queued>, stream: mpsc::Sender<Input>) {
    while let Some((input, _room)) = queued.recv().await {
        if stream.send(input).await.is_err() {
            return;
        }
    }
}

/// Sends a stream's outputs as its credit allows.
async fn carry(mut stream: OpenStream, credit: Arc<Semaphore>, receiver: impl Receiver) {
    while let Some(output) = stream.output.recv().await {
        let frame = match output {
            Output::Failed(failure) => {
                receiver.send(Frame::Message(json!({ "error": failure }))).await;
                return;
            }
            Output::Event(event) => {
                receiver.see(&event);
                Frame::Message(json!({ "event": event }))
            }
            Output::Bytes(bytes) => Frame::Bytes(bytes),
        };
        match credit.acquire().await {
            Ok(permit) => permit.forget(),
            Err(_) => return,
        }
        if !receiver.send(frame).await {
            return;
        }
    }
    receiver.send(Frame::Message(json!({ "end": true }))).await;
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    struct Page(mpsc::UnboundedSender<Frame>);

    impl Receiver for Page {
        async fn send(&self, frame: Frame) -> bool {
            self.0.send(frame).is_ok()
        }
    }

    /// A page, with the frames of its stream 1.
    fn page(open: impl FnOnce() -> OpenStream) -> (Streams, mpsc::UnboundedReceiver<Frame>) {
        let streams = Streams::default();
        let (sender, frames) = mpsc::unbounded_channel();
        streams.open(1, open, Page(sender)).unwrap();
        (streams, frames)
    }

    /// Sends as many events as requested.
    fn counting(events: usize) -> OpenStream {
        OpenStream::spawn(move |channel| async move {
            for number in 0..events {
                channel.event(&number).await?;
            }
            Ok(())
        })
    }

    /// Echoes each input.
    fn echo() -> OpenStream {
        OpenStream::spawn(|mut channel| async move {
            while let Some(input) = channel.input().await {
                match input {
                    Input::Value(value) => channel.event(&value).await?,
                    Input::Bytes(bytes) => channel.bytes(bytes).await?,
                }
            }
            Ok(())
        })
    }

    async fn until_idle(frames: &mut mpsc::UnboundedReceiver<Frame>) -> usize {
        let mut count = 0;
        while let Ok(Some(_)) = timeout(Duration::from_secs(1), frames.recv()).await {
            count += 1;
        }
        count
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_sends_as_much_as_it_has_credit_for() {
        let (streams, mut frames) = page(|| counting(100));
        assert_eq!(until_idle(&mut frames).await, INITIAL_CREDIT);
        streams.grant(1, 10);
        assert_eq!(until_idle(&mut frames).await, 10);
        streams.grant(1, usize::MAX);
        assert_eq!(until_idle(&mut frames).await, 100 - INITIAL_CREDIT - 10 + 1, "the rest, and the end");
    }

    #[tokio::test]
    async fn the_end_and_a_failure_cost_no_credit() {
        let (_streams, mut frames) = page(|| counting(INITIAL_CREDIT));
        for _ in 0..INITIAL_CREDIT {
            assert!(matches!(frames.recv().await, Some(Frame::Message(message)) if message.get("event").is_some()));
        }
        assert_eq!(frames.recv().await, Some(Frame::Message(json!({"end": true}))));
        let (_streams, mut frames) =
            page(|| OpenStream::spawn(|_| async { Err(failure::bad_request("nothing to carry")) }));
        let Some(Frame::Message(message)) = frames.recv().await else { panic!("no failure") };
        assert_eq!(message["error"]["code"], "bad-request");
    }

    #[tokio::test]
    async fn inputs_reach_the_stream_in_order() {
        let (streams, mut frames) = page(echo);
        streams.give(1, Input::Value(json!("first"))).await;
        streams.queue(1, Input::Bytes(Bytes::from_static(b"second")), 6).await;
        assert_eq!(frames.recv().await, Some(Frame::Message(json!({"event": "first"}))));
        assert_eq!(frames.recv().await, Some(Frame::Bytes(Bytes::from_static(b"second"))));
        streams.give(2, Input::Value(json!("a stream nobody opened"))).await;
    }

    #[tokio::test(start_paused = true)]
    async fn inputs_for_a_stream_that_takes_none_wait_up_to_a_limit() {
        let deaf = || {
            OpenStream::spawn(|channel| async move {
                let _channel = channel;
                std::future::pending().await
            })
        };
        let (streams, _frames) = page(deaf);
        let piece = MAX_QUEUED / 4;
        let mut queued = 0;
        while timeout(Duration::from_secs(1), streams.queue(1, Input::Value(json!("x")), piece)).await.is_ok() {
            queued += 1;
            assert!(queued < 100, "the queues have no limit");
        }
        assert!(queued >= 4, "{queued}");
    }

    #[tokio::test]
    async fn a_page_has_a_limited_number_of_streams_and_closes_them() {
        let streams = Streams::default();
        let (sender, _frames) = mpsc::unbounded_channel();
        for id in 0..MAX_STREAMS as u32 {
            streams.open(id, echo, Page(sender.clone())).unwrap();
        }
        let refused = streams.open(1000, echo, Page(sender.clone())).unwrap_err();
        assert_eq!(refused.code, "too-many-streams");
        streams.close(7);
        streams.open(1000, echo, Page(sender.clone())).unwrap();
        streams.close_all();
        drop(sender);
    }
}
