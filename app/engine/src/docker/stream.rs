//! Response bodies that arrive in pieces.

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::Value;

use super::DockerError;

/// Maximum size of one value.
const LONGEST: usize = 4 << 20;

/// The next bytes of a body; `None` at its end.
pub async fn body_bytes(body: &mut Incoming) -> Result<Option<Bytes>, DockerError> {
    loop {
        match body.frame().await {
            None => return Ok(None),
            Some(Err(error)) => return Err(DockerError::Broken(error)),
            // Trailers carry nothing of interest.
            Some(Ok(frame)) => {
                if let Ok(bytes) = frame.into_data() {
                    return Ok(Some(bytes));
                }
            }
        }
    }
}

/// A stream of JSON values, one a line.
pub struct JsonLines {
    body: Incoming,
    buffer: BytesMut,
}

impl JsonLines {
    pub(super) fn new(body: Incoming) -> Self {
        Self { body, buffer: BytesMut::new() }
    }

    /// The next value; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Value>, DockerError> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(end + 1);
                if line.trim_ascii().is_empty() {
                    continue;
                }
                return value(&line).map(Some);
            }
            if self.buffer.len() > LONGEST {
                return Err(DockerError::Unexpected("the Docker Engine sent a line without an end".to_owned()));
            }
            match body_bytes(&mut self.body).await? {
                Some(bytes) => self.buffer.extend_from_slice(&bytes),
                None => {
                    let rest = self.buffer.split();
                    return if rest.trim_ascii().is_empty() { Ok(None) } else { value(&rest).map(Some) };
                }
            }
        }
    }
}

fn value(line: &[u8]) -> Result<Value, DockerError> {
    serde_json::from_slice(line)
        .map_err(|error| DockerError::Unexpected(format!("the Docker Engine sent what cannot be read: {error}")))
}
