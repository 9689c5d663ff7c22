//! Open streams: a task with a bounded channel each way. A stream ends when either end is dropped.

use std::future::Future;

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::{sync::mpsc, task::AbortHandle};

use crate::{contract::Failure, failure};

/// Maximum number of outputs that wait for their reader; at this the stream waits.
const MAX_WAITING: usize = 8;

/// An output of a stream.
#[derive(Debug)]
pub enum Output {
    /// An event of the stream's type.
    Event(Value),
    /// Raw bytes.
    Bytes(Bytes),
    /// A failure; nothing follows it.
    Failed(Failure),
}

/// An input of a stream.
#[derive(Debug)]
pub enum Input {
    /// An input of the stream's type.
    Value(Value),
    /// Raw bytes.
    Bytes(Bytes),
}

/// The reader's end of a stream. Dropping it cancels the stream's work.
#[derive(Debug)]
pub struct OpenStream {
    /// Outputs, in order; closed when the stream ends.
    pub output: mpsc::Receiver<Output>,
    /// Inputs; closed by a stream that takes none.
    pub input: mpsc::Sender<Input>,
    task: AbortHandle,
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl OpenStream {
    /// Runs `serve` with the handler's end. Its failure becomes the last output.
    pub(crate) fn spawn<F>(serve: impl FnOnce(Channel) -> F) -> Self
    where
        F: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        let (outputs, output) = mpsc::channel(MAX_WAITING);
        let (input, inputs) = mpsc::channel(MAX_WAITING);
        let last = outputs.clone();
        let serving = serve(Channel { output: outputs, input: inputs });
        let task = tokio::spawn(async move {
            if let Err(failure) = serving.await {
                // The reader may be gone.
                last.send(Output::Failed(failure)).await.ok();
            }
        });
        Self { output, input, task: task.abort_handle() }
    }
}

/// The handler's end of a stream.
pub(crate) struct Channel {
    output: mpsc::Sender<Output>,
    input: mpsc::Receiver<Input>,
}

impl Channel {
    /// Sends an event once the reader has room.
    pub(crate) async fn event(&self, event: &impl Serialize) -> Result<(), Failure> {
        let value = serde_json::to_value(event).map_err(|error| failure::unexpected(error.to_string()))?;
        self.output.send(Output::Event(value)).await.map_err(|_| failure::canceled())
    }

    /// Sends bytes once the reader has room.
    pub(crate) async fn bytes(&self, bytes: Bytes) -> Result<(), Failure> {
        self.output.send(Output::Bytes(bytes)).await.map_err(|_| failure::canceled())
    }

    /// Moves the inputs out, for a handler that reads them in another task. [`input`](Self::input) returns `None`
    /// afterwards.
    pub(crate) fn take_inputs(&mut self) -> mpsc::Receiver<Input> {
        std::mem::replace(&mut self.input, mpsc::channel(1).1)
    }

    /// The next input; `None` once the reader is gone.
    pub(crate) async fn input(&mut self) -> Option<Input> {
        self.input.recv().await
    }
}

/// Parses an input or parameters.
pub(crate) fn parse<T: DeserializeOwned>(value: Value) -> Result<T, Failure> {
    serde_json::from_value(value).map_err(|error| failure::bad_request(format!("malformed request: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stream_waits_for_its_reader_and_ends_with_its_failure() {
        let mut stream = OpenStream::spawn(|channel| async move {
            for number in 0..100 {
                channel.event(&number).await?;
            }
            Err(failure::bad_request("enough"))
        });
        tokio::task::yield_now().await;
        assert!(stream.output.len() <= MAX_WAITING);
        let mut events = 0;
        while let Some(output) = stream.output.recv().await {
            match output {
                Output::Event(value) => assert_eq!(value, events),
                Output::Failed(failure) => assert_eq!((failure.message.as_str(), events), ("enough", 100)),
                Output::Bytes(_) => panic!("nobody sent bytes"),
            }
            events += 1;
        }
        assert_eq!(events, 101);
    }

    #[tokio::test]
    async fn dropping_a_stream_ends_its_task() {
        let (alive, mut dead) = mpsc::channel::<()>(1);
        let stream = OpenStream::spawn(|_channel| async move {
            let _alive = alive;
            std::future::pending().await
        });
        drop(stream);
        assert!(dead.recv().await.is_none());
    }
}
