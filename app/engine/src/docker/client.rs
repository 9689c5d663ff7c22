//! Requests and answers.

use std::{fmt::Write, path::PathBuf};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full, StreamBody, combinators::BoxBody};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Frame, Incoming},
    client::conn::http1,
    header,
    upgrade::Upgraded,
};
use hyper_util::rt::TokioIo;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::{net::UnixStream, sync::mpsc};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};

use super::{DockerError, JsonLines};

type Body = BoxBody<Bytes, std::convert::Infallible>;

/// What stays as it is in a query or a path segment.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A path with its query.
#[derive(Clone, Debug)]
pub struct Query(String);

impl Query {
    /// `pattern` with each `{}` replaced by one of `parts`, made safe for a path.
    pub fn new(pattern: &str, parts: &[&str]) -> Self {
        let mut path = String::with_capacity(pattern.len() + 64);
        let mut parts = parts.iter();
        for (index, piece) in pattern.split("{}").enumerate() {
            if index > 0 {
                let _ = write!(path, "{}", utf8_percent_encode(parts.next().unwrap_or(&""), PLAIN));
            }
            path.push_str(piece);
        }
        Self(path)
    }

    /// One more parameter.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        let sign = if self.0.contains('?') { '&' } else { '?' };
        let _ = write!(self.0, "{sign}{name}={}", utf8_percent_encode(value, PLAIN));
        self
    }

    /// One more parameter, unless there is none.
    #[must_use]
    pub fn maybe(self, name: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// The engine's filters: a JSON object of lists.
    #[must_use]
    pub fn filters(self, filters: &Value) -> Self {
        self.with("filters", &filters.to_string())
    }
}

/// The way to an engine.
#[derive(Clone, Debug)]
pub struct Docker {
    socket: PathBuf,
}

impl Docker {
    /// Of the engine that serves `socket`.
    pub fn at(socket: PathBuf) -> Self {
        Self { socket }
    }

    async fn send(
        &self,
        method: Method,
        query: &Query,
        body: Body,
        headers: &[(header::HeaderName, &str)],
    ) -> Result<Response<Incoming>, DockerError> {
        let stream = UnixStream::connect(&self.socket).await.map_err(DockerError::Unreachable)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(DockerError::Broken)?;
        // It ends with the answer's body, or with the caller who drops that.
        tokio::spawn(connection.with_upgrades());
        let mut request = Request::builder().method(method).uri(&query.0).header(header::HOST, "docker");
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        let request = request
            .body(body)
            .map_err(|error| DockerError::Unexpected(format!("a request cannot be made: {error}")))?;
        let answer = sender.send_request(request).await.map_err(DockerError::Broken)?;
        let status = answer.status();
        if status.is_success() || status == StatusCode::SWITCHING_PROTOCOLS || status == StatusCode::NOT_MODIFIED {
            return Ok(answer);
        }
        let text = answer.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        Err(DockerError::refused(status.as_u16(), &text))
    }

    async fn json(&self, method: Method, query: &Query, body: Option<&Value>) -> Result<Bytes, DockerError> {
        let (body, headers): (Body, &[_]) = match body {
            Some(value) => {
                (Full::new(Bytes::from(value.to_string())).boxed(), &[(header::CONTENT_TYPE, "application/json")])
            }
            None => (Empty::new().boxed(), &[]),
        };
        let answer = self.send(method, query, body, headers).await?;
        Ok(answer.into_body().collect().await.map_err(DockerError::Broken)?.to_bytes())
    }

    /// Reads something.
    pub async fn get<T: DeserializeOwned>(&self, query: &Query) -> Result<T, DockerError> {
        parse(&self.json(Method::GET, query, None).await?)
    }

    /// Does something that answers.
    pub async fn post<T: DeserializeOwned>(&self, query: &Query, body: &impl Serialize) -> Result<T, DockerError> {
        let body = serde_json::to_value(body).map_err(|error| DockerError::Unexpected(error.to_string()))?;
        parse(&self.json(Method::POST, query, Some(&body)).await?)
    }

    /// Does something; what it answers does not matter.
    pub async fn act(&self, query: &Query, body: Option<&Value>) -> Result<(), DockerError> {
        self.json(Method::POST, query, body).await.map(drop)
    }

    /// Removes something; the answer, if there is one.
    pub async fn delete(&self, query: &Query) -> Result<Value, DockerError> {
        let answer = self.json(Method::DELETE, query, None).await?;
        if answer.is_empty() { Ok(Value::Null) } else { parse(&answer) }
    }

    /// A body as it comes.
    pub async fn stream(&self, query: &Query) -> Result<Incoming, DockerError> {
        Ok(self.send(Method::GET, query, Empty::new().boxed(), &[]).await?.into_body())
    }

    /// JSON values one after the other, as they come.
    pub async fn lines(&self, query: &Query) -> Result<JsonLines, DockerError> {
        Ok(JsonLines::new(self.stream(query).await?))
    }

    /// The same of something that is done; `authentication` is the engine's header for a registry.
    pub async fn act_lines(&self, query: &Query, authentication: Option<&str>) -> Result<JsonLines, DockerError> {
        let name = header::HeaderName::from_static("x-registry-auth");
        let headers: Vec<_> = authentication.map(|value| (name, value)).into_iter().collect();
        let answer = self.send(Method::POST, query, Empty::new().boxed(), &headers).await?;
        Ok(JsonLines::new(answer.into_body()))
    }

    /// Sends a tar; the answer as JSON values.
    pub async fn upload(
        &self,
        method: Method,
        query: &Query,
        content: mpsc::Receiver<Bytes>,
    ) -> Result<JsonLines, DockerError> {
        let frames = ReceiverStream::new(content).map(|bytes| Ok(Frame::data(bytes)));
        let body = BodyExt::boxed(StreamBody::new(frames));
        let answer = self.send(method, query, body, &[(header::CONTENT_TYPE, "application/x-tar")]).await?;
        Ok(JsonLines::new(answer.into_body()))
    }

    /// Turns the connection into bytes both ways.
    pub async fn hijack(&self, query: &Query, body: &Value) -> Result<TokioIo<Upgraded>, DockerError> {
        let headers =
            [(header::CONTENT_TYPE, "application/json"), (header::CONNECTION, "Upgrade"), (header::UPGRADE, "tcp")];
        let body = Full::new(Bytes::from(body.to_string())).boxed();
        let answer = self.send(Method::POST, query, body, &headers).await?;
        let upgraded = hyper::upgrade::on(answer).await.map_err(DockerError::Broken)?;
        Ok(TokioIo::new(upgraded))
    }
}

fn parse<T: DeserializeOwned>(text: &[u8]) -> Result<T, DockerError> {
    serde_json::from_slice(text)
        .map_err(|error| DockerError::Unexpected(format!("the Docker Engine answered what cannot be read: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_users_name_never_changes_the_path() {
        let query = Query::new("/containers/{}/json", &["../images?x=1"]).with("a", "b&c=d");
        assert_eq!(query.0, "/containers/..%2Fimages%3Fx%3D1/json?a=b%26c%3Dd");
        assert_eq!(Query::new("/x", &[]).maybe("p", None).with("q", "é").0, "/x?q=%C3%A9");
    }
}
