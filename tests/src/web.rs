//! Runs `rorqual web` and acts as its client: calls over HTTP and streams over a WebSocket, like the pages.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use tungstenite::{Message, WebSocket, client::IntoClientRequest};

use crate::Machine;

/// Deadline for an answer or an event.
const PATIENCE: Duration = Duration::from_mins(2);

/// A running `rorqual web` with one session. Dropping it ends the server.
#[derive(Debug)]
pub struct Web {
    server: Child,
    /// The address it listens on.
    pub port: u16,
    /// The address it printed, whose token has been used.
    pub url: String,
    /// The session's cookie, `name=value`.
    pub cookie: String,
    _pages: TempDir,
}

/// An HTTP answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its headers, by lower-case name.
    pub headers: BTreeMap<String, String>,
    /// Its body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body)
            .with_context(|| format!("no JSON: {} {}", self.status, String::from_utf8_lossy(&self.body)))
    }
}

/// Sends one request over a connection of its own; `headers` are all headers except the length.
pub fn request(port: u16, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Answer> {
    let mut connection = TcpStream::connect(("127.0.0.1", port))?;
    connection.set_read_timeout(Some(PATIENCE))?;
    let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        write!(head, "{name}: {value}\r\n")?;
    }
    connection.write_all(format!("{head}\r\n").as_bytes())?;
    connection.write_all(body)?;
    let mut reader = BufReader::new(connection);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let status =
        line.split(' ').nth(1).and_then(|word| word.parse().ok()).with_context(|| format!("no HTTP: {line}"))?;
    let mut headers = BTreeMap::new();
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    ensure!(!headers.contains_key("transfer-encoding"), "an answer in pieces is not read here");
    let mut body = Vec::new();
    reader.read_to_end(&mut body)?;
    Ok(Answer { status, headers, body })
}

impl Web {
    /// Starts a server for a machine's state directory and opens the address it prints.
    pub fn start(machine: &Machine) -> Result<Self> {
        let pages = tempfile::tempdir()?;
        fs::write(pages.path().join("index.html"), "<!doctype html><title>pages</title>")?;
        let mut command = machine.rorqual(["web", "--json", "--no-open"]);
        let mut server = command.env("RORQUAL_UI", pages.path()).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(server.stdout.take().context("no standard output")?).read_line(&mut line)?;
        let printed: Value =
            serde_json::from_str(&line).with_context(|| format!("not what was to be printed: {line}"))?;
        let port = printed["port"].as_u64().and_then(|port| u16::try_from(port).ok()).context("no port")?;
        let url = printed["url"].as_str().context("no address")?.to_owned();
        let path = url.split_once(&format!("localhost:{port}")).context("another host")?.1.to_owned();
        let mut web = Self { server, port, url, cookie: String::new(), _pages: pages };
        let answer = request(port, "GET", &path, &[("Host", &web.host())], b"")?;
        ensure!(answer.status == 303 && answer.headers["location"] == "/", "{answer:?}");
        let cookie = answer.headers.get("set-cookie").context("no cookie")?;
        cookie.split(';').next().unwrap_or_default().clone_into(&mut web.cookie);
        Ok(web)
    }

    /// The server's name and port.
    pub fn host(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// Process of the server.
    pub fn process(&self) -> u32 {
        self.server.id()
    }

    /// Makes a call and returns the answer, successful or not.
    pub fn attempt(&self, name: &str, params: &Value) -> Result<Answer> {
        let origin = format!("http://{}", self.host());
        let headers = [
            ("Host", self.host()),
            ("Origin", origin),
            ("Cookie", self.cookie.clone()),
            ("Content-Type", "application/json".to_owned()),
        ];
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        request(self.port, "POST", &format!("/api/call/{name}"), &headers, params.to_string().as_bytes())
    }

    /// Makes a call that must succeed.
    pub fn call(&self, name: &str, params: &Value) -> Result<Value> {
        let answer = self.attempt(name, params)?;
        ensure!(answer.status == 200, "{name}: {} {}", answer.status, String::from_utf8_lossy(&answer.body));
        answer.json()
    }

    /// Makes a call that must fail; returns the code of its failure.
    pub fn refusal(&self, name: &str, params: &Value) -> Result<String> {
        let answer = self.attempt(name, params)?;
        ensure!(answer.status >= 400, "{name} was not refused: {}", String::from_utf8_lossy(&answer.body));
        Ok(answer.json()?["code"].as_str().unwrap_or_default().to_owned())
    }

    /// Opens a stream on a WebSocket of its own.
    pub fn open(&self, stream: &str, params: &Value) -> Result<Stream> {
        let mut request = format!("ws://{}/api/streams", self.host()).into_client_request()?;
        request.headers_mut().insert("Origin", format!("http://{}", self.host()).parse()?);
        request.headers_mut().insert("Cookie", self.cookie.parse()?);
        let connection = TcpStream::connect(("127.0.0.1", self.port))?;
        connection.set_read_timeout(Some(PATIENCE))?;
        let (mut socket, _) = tungstenite::client(request, connection).map_err(|error| anyhow::anyhow!("{error}"))?;
        socket.send(text(&json!({"id": 1, "open": {"stream": stream, "params": params}})))?;
        Ok(Stream { socket, name: stream.to_owned() })
    }

    /// Returns all events and bytes of a stream that must end well.
    pub fn whole(&self, stream: &str, params: &Value) -> Result<(Vec<Value>, Vec<u8>)> {
        self.open(stream, params)?.rest()
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.server.kill().ok();
        self.server.wait().ok();
    }
}

fn text(value: &Value) -> Message {
    Message::Text(value.to_string().into())
}

/// An open stream. Dropping it cancels.
#[derive(Debug)]
pub struct Stream {
    socket: WebSocket<TcpStream>,
    name: String,
}

/// Output of a stream.
#[derive(Clone, Debug)]
pub enum Given {
    /// An event.
    Event(Value),
    /// Bytes.
    Bytes(Vec<u8>),
    /// The end, without a failure.
    End,
    /// A failure.
    Failure(Value),
}

impl Stream {
    /// The next output; grants one more event or piece of bytes for each.
    pub fn given(&mut self) -> Result<Given> {
        let given = self.given_without_credit()?;
        if matches!(given, Given::Event(_) | Given::Bytes(_)) {
            self.grant(1)?;
        }
        Ok(given)
    }

    /// The next output, without granting another.
    pub fn given_without_credit(&mut self) -> Result<Given> {
        loop {
            match self.socket.read().with_context(|| format!("{} gave nothing", self.name))? {
                Message::Text(text) => {
                    let mut frame: Value = serde_json::from_str(&text)?;
                    return Ok(if frame["end"] == true {
                        Given::End
                    } else if frame["error"].is_object() {
                        Given::Failure(frame["error"].take())
                    } else {
                        Given::Event(frame["event"].take())
                    });
                }
                Message::Binary(bytes) => return Ok(Given::Bytes(bytes.slice(4..).to_vec())),
                Message::Close(_) => bail!("{}: the server closed the connection", self.name),
                _ => {}
            }
        }
    }

    /// Grants that many more events.
    pub fn grant(&mut self, count: u32) -> Result<()> {
        Ok(self.socket.send(text(&json!({"id": 1, "credit": count})))?)
    }

    /// The next event.
    pub fn event(&mut self) -> Result<Value> {
        match self.given()? {
            Given::Event(event) => Ok(event),
            other => bail!("{}: expected an event, not {other:?}", self.name),
        }
    }

    /// Reads events until one matches.
    pub fn until(&mut self, what: &str, mut wanted: impl FnMut(&Value) -> bool) -> Result<Value> {
        let begin = Instant::now();
        while begin.elapsed() < PATIENCE {
            let event = self.event().with_context(|| format!("waiting for {what}"))?;
            if wanted(&event) {
                return Ok(event);
            }
        }
        bail!("{}: not within {} s: {what}", self.name, PATIENCE.as_secs())
    }

    /// Reads until it ends well.
    pub fn rest(&mut self) -> Result<(Vec<Value>, Vec<u8>)> {
        let (mut events, mut bytes) = (Vec::new(), Vec::new());
        loop {
            match self.given()? {
                Given::Event(event) => events.push(event),
                Given::Bytes(more) => bytes.extend_from_slice(&more),
                Given::End => return Ok((events, bytes)),
                Given::Failure(failure) => bail!("{}: {failure} after {events:?}", self.name),
            }
        }
    }

    /// Reads until it fails.
    pub fn failure(&mut self) -> Result<Value> {
        loop {
            match self.given()? {
                Given::Failure(failure) => return Ok(failure),
                Given::End => bail!("{} ended well", self.name),
                Given::Event(_) | Given::Bytes(_) => {}
            }
        }
    }

    /// Sends an input.
    pub fn input(&mut self, input: &Value) -> Result<()> {
        Ok(self.socket.send(text(&json!({"id": 1, "input": input})))?)
    }

    /// Sends bytes.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        let frame: Vec<u8> = 1_u32.to_be_bytes().into_iter().chain(bytes.iter().copied()).collect();
        Ok(self.socket.send(Message::Binary(frame.into()))?)
    }

    /// Closes it, which cancels its work.
    pub fn close(mut self) -> Result<()> {
        Ok(self.socket.send(text(&json!({"id": 1, "close": true})))?)
    }
}
