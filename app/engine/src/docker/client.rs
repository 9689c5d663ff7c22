//! Requests to the engine and their responses.

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

/// Characters left unescaped in a query or a path segment.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A path with its query.
#[derive(Clone, Debug)]
pub struct Query(String);

impl Query {
    /// `pattern` with each `{}` replaced by one of `parts`, percent-encoded.
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

    /// Adds a parameter.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        let sign = if self.0.contains('?') { '&' } else { '?' };
        let _ = write!(self.0, "{sign}{name}={}", utf8_percent_encode(value, PLAIN));
        self
    }

    /// Adds a parameter, if it has a value.
    #[must_use]
    pub fn maybe(self, name: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// Adds the engine's filters: a JSON object of lists.
    #[must_use]
    pub fn filters(self, filters: &Value) -> Self {
        self.with("filters", &filters.to_string())
    }
}

/// A client of an engine.
#[derive(Clone, Debug)]
pub struct Docker {
    socket: PathBuf,
}

impl Docker {
    /// The client of the engine behind `socket`.
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
        // The task ends with the response's body, or when the caller drops that.
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

    /// GET, with a JSON response.
    pub async fn get<T: DeserializeOwned>(&self, query: &Query) -> Result<T, DockerError> {
        parse(&self.json(Method::GET, query, None).await?)
    }

    /// POST, with a JSON response.
    pub async fn post<T: DeserializeOwned>(&self, query: &Query, body: &impl Serialize) -> Result<T, DockerError> {
        let body = serde_json::to_value(body).map_err(|error| DockerError::Unexpected(error.to_string()))?;
        parse(&self.json(Method::POST, query, Some(&body)).await?)
    }

    /// POST; the response's content is ignored.
    pub async fn act(&self, query: &Query, body: Option<&Value>) -> Result<(), DockerError> {
        self.json(Method::POST, query, body).await.map(drop)
    }

    /// DELETE, with the response, if there is one.
    pub async fn delete(&self, query: &Query) -> Result<Value, DockerError> {
        let answer = self.json(Method::DELETE, query, None).await?;
        if answer.is_empty() { Ok(Value::Null) } else { parse(&answer) }
    }

    /// GET, with the body as a stream.
    pub async fn stream(&self, query: &Query) -> Result<Incoming, DockerError> {
        Ok(self.send(Method::GET, query, Empty::new().boxed(), &[]).await?.into_body())
    }

    /// GET, with a stream of JSON values.
    pub async fn lines(&self, query: &Query) -> Result<JsonLines, DockerError> {
        Ok(JsonLines::new(self.stream(query).await?))
    }

    /// POST, with a stream of JSON values; `authentication` is the engine's header for a registry.
    pub async fn act_lines(&self, query: &Query, authentication: Option<&str>) -> Result<JsonLines, DockerError> {
        let name = header::HeaderName::from_static("x-registry-auth");
        let headers: Vec<_> = authentication.map(|value| (name, value)).into_iter().collect();
        let answer = self.send(Method::POST, query, Empty::new().boxed(), &headers).await?;
        Ok(JsonLines::new(answer.into_body()))
    }

    /// Sends a tar, with a stream of JSON values as the response.
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

    /// Upgrades the connection to a stream of bytes both ways.
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
