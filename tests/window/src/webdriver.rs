//! As much of a WebDriver client as the suite needs (W3C WebDriver): a request is a connection, an answer is JSON.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use base64::Engine;
use rorqual_tests::eventually_ok;
use serde_json::{Value, json};

/// The key under which the protocol hands elements out.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
/// No answer takes longer; the driver starts the application within it.
const PATIENCE: Duration = Duration::from_mins(1);
/// tauri-driver hangs up without an answer when it has sent a request on a connection to WebKit's driver that this was
/// just closing; the request was not carried out then.
const ATTEMPTS: usize = 3;

/// A session: one window of the application.
#[derive(Debug)]
pub struct Session {
    port: u16,
    path: String,
}

/// Something on the page.
#[derive(Debug)]
pub struct Element<'a> {
    session: &'a Session,
    id: String,
}

impl Session {
    /// Starts `program` through the driver that listens at `port`.
    pub fn start(port: u16, program: &str) -> Result<Self> {
        let wanted = json!({"capabilities": {"alwaysMatch": {"tauri:options": {"application": program}}}});
        let answer = request(port, "POST", "/session", Some(&wanted))?;
        let id = answer["sessionId"].as_str().context("the driver gave no session")?;
        Ok(Self { port, path: format!("/session/{id}") })
    }

    /// Ends the application.
    pub fn end(&self) -> Result<()> {
        request(self.port, "DELETE", &self.path, None).map(drop)
    }

    fn post(&self, path: &str, body: &Value) -> Result<Value> {
        request(self.port, "POST", &format!("{}{path}", self.path), Some(body))
    }

    /// Runs a function's body in the page.
    pub fn script(&self, body: &str) -> Result<Value> {
        self.post("/execute/sync", &json!({"script": body, "args": []}))
    }

    /// The element at `xpath`, once it is there.
    pub fn find(&self, xpath: &str) -> Result<Element<'_>> {
        eventually_ok(&format!("the page has {xpath}"), || self.find_now(xpath))
    }

    /// The element at `xpath`, if it is there now.
    pub fn find_now(&self, xpath: &str) -> Result<Element<'_>> {
        let found = self.post("/element", &json!({"using": "xpath", "value": xpath}))?;
        let id = found[ELEMENT].as_str().with_context(|| format!("no element: {found}"))?.to_owned();
        Ok(Element { session: self, id })
    }

    /// Clicks what is at `xpath` once it is there and takes clicks: a page may move it just then.
    pub fn click(&self, xpath: &str) -> Result<()> {
        eventually_ok(&format!("a click on {xpath}"), || self.find_now(xpath)?.click())
    }

    /// Waits until the text of the page's `selector` holds `text`.
    pub fn reads(&self, selector: &str, text: &str) -> Result<()> {
        eventually_ok(&format!("{selector} reads {text:?}"), || {
            let read = self.script(&format!("return document.querySelector({})?.innerText ?? ''", json!(selector)))?;
            let read = read.as_str().unwrap_or_default();
            if read.contains(text) { Ok(()) } else { bail!("it reads {read:?}") }
        })
    }

    /// A picture of the page as PNG.
    pub fn picture(&self) -> Result<Vec<u8>> {
        let picture = request(self.port, "GET", &format!("{}/screenshot", self.path), None)?;
        let text = picture.as_str().context("the driver gave no picture")?;
        Ok(base64::engine::general_purpose::STANDARD.decode(text)?)
    }
}

impl Element<'_> {
    /// Clicks it.
    pub fn click(&self) -> Result<()> {
        self.session.post(&format!("/element/{}/click", self.id), &json!({})).map(drop)
    }

    /// Types into it.
    pub fn type_text(&self, text: &str) -> Result<()> {
        self.session.post(&format!("/element/{}/value", self.id), &json!({"text": text})).map(drop)
    }
}

fn request(port: u16, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
    let body = body.map(Value::to_string).unwrap_or_default();
    let mut answer = exchange(port, method, path, &body)?;
    for _ in 1..ATTEMPTS {
        if !answer.is_empty() {
            break;
        }
        answer = exchange(port, method, path, &body)?;
    }
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").context("the driver's answer has no body")?;
    let document: Value = serde_json::from_slice(&answer[end + 4..])
        .with_context(|| format!("the driver answered {}", String::from_utf8_lossy(&answer)))?;
    let value = &document["value"];
    match value.get("error") {
        Some(error) => bail!("{method} {path}: {error}: {}", value["message"]),
        None => Ok(value.clone()),
    }
}

fn exchange(port: u16, method: &str, path: &str, body: &str) -> Result<Vec<u8>> {
    let mut connection = TcpStream::connect(("127.0.0.1", port))?;
    connection.set_read_timeout(Some(PATIENCE))?;
    let length = body.len();
    write!(
        connection,
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\nContent-Length: \
         {length}\r\nConnection: close\r\n\r\n{body}"
    )?;
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer)?;
    Ok(answer)
}
