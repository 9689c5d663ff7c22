//! The part of D-Bus that a service with one client needs: the handshake, calls, and their answers (D-Bus
//! Specification 0.43, "Authentication Protocol" and "Message Protocol"). Only little-endian messages are understood,
//! the order of every processor the guest runs on.

use std::io::{self, BufRead, Read, Write};

/// Longest message accepted, in bytes; longer than any command line the kernel takes.
const MAX_MESSAGE: usize = 1 << 20;
/// Longest line of the handshake, in bytes.
const MAX_LINE: u64 = 512;
/// Bytes before a message's header fields: byte order, kind, flags, version, body length, serial, length of the fields.
const FIXED: usize = 16;

const CALL: u8 = 1;
const RETURN: u8 = 2;
const ERROR: u8 = 3;
const NO_ANSWER_EXPECTED: u8 = 1;

const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const SIGNATURE: u8 = 8;

/// A method call.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Call {
    serial: u32,
    pub(super) wants_answer: bool,
    pub(super) interface: String,
    pub(super) member: String,
    /// The strings of the body in order, those of arrays included. `None` if the body holds anything else.
    pub(super) strings: Option<Vec<String>>,
}

/// The answer to a call.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Nothing,
    Text(String),
    List(Vec<String>),
    /// Name of the error, and its text.
    Error(&'static str, String),
}

/// Admits the client, which may be anybody who can reach the socket, and returns at the first message.
pub(super) fn admit(client: &mut impl BufRead, mut answers: impl Write) -> io::Result<()> {
    // The byte that carries credentials where a socket cannot be asked for them.
    client.read_exact(&mut [0])?;
    loop {
        let mut line = String::new();
        client.take(MAX_LINE).read_line(&mut line)?;
        let answer = match line.trim_end().split(' ').collect::<Vec<_>>().as_slice() {
            [""] => return Err(io::ErrorKind::UnexpectedEof.into()),
            ["BEGIN"] => return Ok(()),
            ["AUTH", "EXTERNAL", _] | ["DATA", ..] => "OK 00000000000000000000000000000000\r\n",
            ["AUTH", "EXTERNAL"] => "DATA\r\n",
            ["AUTH", ..] => "REJECTED EXTERNAL\r\n",
            // NEGOTIATE_UNIX_FD among others: no call carries a descriptor.
            _ => "ERROR\r\n",
        };
        answers.write_all(answer.as_bytes())?;
    }
}

/// Reads up to the next call. `None` when the client is gone.
///
/// # Errors
/// The connection's, and `InvalidData` for what is not a message, after which the rest cannot be read.
pub(super) fn next_call(client: &mut impl BufRead) -> io::Result<Option<Call>> {
    loop {
        if client.fill_buf()?.is_empty() {
            return Ok(None);
        }
        let mut message = vec![0; FIXED];
        client.read_exact(&mut message)?;
        let (order, kind, version) = (message.first(), message.get(1), message.get(3));
        if (order, version) != (Some(&b'l'), Some(&1)) {
            return Err(invalid("not a little-endian message of version 1"));
        }
        let mut lengths = Reader { bytes: &message, at: 4 };
        let (body, _serial, fields) = (lengths.number()?, lengths.number()?, lengths.number()?);
        let begin = (FIXED + fields as usize).next_multiple_of(8);
        let length = begin + body as usize;
        if length > MAX_MESSAGE {
            return Err(invalid("a message is too long"));
        }
        let is_call = kind == Some(&CALL);
        message.resize(length, 0);
        client.read_exact(message.get_mut(FIXED..).unwrap_or_default())?;
        if is_call {
            return parse(&message, FIXED + fields as usize, begin).map(Some);
        }
    }
}

fn parse(message: &[u8], fields_end: usize, body: usize) -> io::Result<Call> {
    let (mut interface, mut member, mut signature) = (String::new(), String::new(), String::new());
    let serial = Reader { bytes: message, at: 8 }.number()?;
    let mut fields = Reader { bytes: message.get(..fields_end).unwrap_or_default(), at: FIXED };
    while fields.at < fields_end {
        fields.align(8);
        let code = fields.byte()?;
        let kind = fields.signature()?;
        let value = match kind.as_str() {
            "s" | "o" => fields.string()?,
            "g" => fields.signature()?,
            "u" => fields.number().map(|number| number.to_string())?,
            _ => return Err(invalid("a header field of an unknown type")),
        };
        match code {
            INTERFACE => interface = value,
            MEMBER => member = value,
            SIGNATURE => signature = value,
            _ => {}
        }
    }
    let wants_answer = message.get(2).is_none_or(|flags| flags & NO_ANSWER_EXPECTED == 0);
    let strings = strings(&mut Reader { bytes: message, at: body }, &signature)?;
    Ok(Call { serial, wants_answer, interface, member, strings })
}

/// The strings of a body that has only strings and arrays of them.
fn strings(body: &mut Reader<'_>, signature: &str) -> io::Result<Option<Vec<String>>> {
    let mut strings = Vec::new();
    let mut kinds = signature.chars();
    while let Some(kind) = kinds.next() {
        match kind {
            's' => strings.push(body.string()?),
            'a' if kinds.next() == Some('s') => {
                let end = body.number()? as usize + body.at;
                while body.at < end {
                    strings.push(body.string()?);
                }
            }
            _ => return Ok(None),
        }
    }
    Ok(Some(strings))
}

/// The message that answers `call`. `serial` counts the answers and is never 0.
pub(super) fn answer(call: &Call, serial: u32, answer: &Answer) -> Vec<u8> {
    let mut body = Writer::default();
    let (signature, error) = match answer {
        Answer::Nothing => ("", None),
        Answer::Text(text) => {
            body.string(text);
            ("s", None)
        }
        Answer::List(list) => {
            let mut items = Writer::default();
            for item in list {
                items.string(item);
            }
            body.number(items.0.len());
            body.0.append(&mut items.0);
            ("as", None)
        }
        Answer::Error(name, text) => {
            body.string(text);
            ("s", Some(*name))
        }
    };
    let mut message = Writer(vec![b'l', if error.is_some() { ERROR } else { RETURN }, NO_ANSWER_EXPECTED, 1]);
    message.number(body.0.len());
    message.number(serial as usize);
    message.number(0);
    message.field(REPLY_SERIAL, "u");
    message.number(call.serial as usize);
    if let Some(name) = error {
        message.field(ERROR_NAME, "s");
        message.string(name);
    }
    if !signature.is_empty() {
        message.field(SIGNATURE, "g");
        message.signature(signature);
    }
    let fields = u32::try_from(message.0.len() - FIXED).unwrap_or(u32::MAX).to_le_bytes();
    if let Some(length) = message.0.get_mut(FIXED - 4..FIXED) {
        length.copy_from_slice(&fields);
    }
    message.align(8);
    message.0.append(&mut body.0);
    message.0
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Reads values, each aligned as its type asks, from the start of a message.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take(&mut self, length: usize) -> io::Result<&[u8]> {
        let end = self.at.saturating_add(length);
        let taken = self.bytes.get(self.at..end).ok_or_else(|| invalid("a value exceeds its message"))?;
        self.at = end;
        Ok(taken)
    }

    fn byte(&mut self) -> io::Result<u8> {
        Ok(self.take(1)?.first().copied().unwrap_or_default())
    }

    fn number(&mut self) -> io::Result<u32> {
        self.align(4);
        let bytes = self.take(4)?.try_into().map_err(|_| invalid("a number is cut off"))?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn string(&mut self) -> io::Result<String> {
        let length = self.number()? as usize;
        self.text(length)
    }

    fn signature(&mut self) -> io::Result<String> {
        let length = self.byte()?.into();
        self.text(length)
    }

    /// Text and the zero byte after it.
    fn text(&mut self, length: usize) -> io::Result<String> {
        let text = String::from_utf8(self.take(length)?.to_vec()).map_err(|_| invalid("a string is not UTF-8"))?;
        self.take(1)?;
        Ok(text)
    }
}

/// Writes values, aligned from the start of a message, or of a body, which begins at a multiple of 8.
#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    /// Lengths and serials, which are far below 2³².
    fn number(&mut self, number: usize) {
        self.align(4);
        self.0.extend_from_slice(&u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes());
    }

    fn string(&mut self, text: &str) {
        self.number(text.len());
        self.0.extend_from_slice(text.as_bytes());
        self.0.push(0);
    }

    fn signature(&mut self, text: &str) {
        self.0.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
        self.0.extend_from_slice(text.as_bytes());
        self.0.push(0);
    }

    fn field(&mut self, code: u8, kind: &str) {
        self.align(8);
        self.0.push(code);
        self.signature(kind);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What libdbus 1.14 sends for `direct.passthrough("ipv4", ["-t", "nat", "-nL", "DOCKER"])`.
    const PASSTHROUGH: &[u8] = b"l\x01\x00\x013\x00\x00\x00\x02\x00\x00\x00\xa1\x00\x00\x00\
        \x01\x01o\x00\x1d\x00\x00\x00/org/fedoraproject/FirewallD1\x00\x00\x00\
        \x02\x01s\x00#\x00\x00\x00org.fedoraproject.FirewallD1.direct\x00\x00\x00\x00\x00\
        \x03\x01s\x00\x0b\x00\x00\x00passthrough\x00\x00\x00\x00\x00\
        \x06\x01s\x00\x1c\x00\x00\x00org.fedoraproject.FirewallD1\x00\x00\x00\x00\
        \x08\x01g\x00\x03sas\x00\x00\x00\x00\x00\x00\x00\x00\
        \x04\x00\x00\x00ipv4\x00\x00\x00\x00#\x00\x00\x00\x02\x00\x00\x00-t\x00\x00\x03\x00\x00\x00nat\x00\
        \x03\x00\x00\x00-nL\x00\x06\x00\x00\x00DOCKER\x00";

    fn call() -> Call {
        next_call(&mut &*PASSTHROUGH).unwrap().unwrap()
    }

    /// `PASSTHROUGH` with one byte changed.
    fn changed(at: usize, byte: u8) -> Vec<u8> {
        let mut message = PASSTHROUGH.to_vec();
        message[at] = byte;
        message
    }

    #[test]
    fn a_call_is_read_with_its_strings() {
        let call = call();
        assert_eq!((call.serial, call.wants_answer), (2, true));
        assert_eq!(
            (call.interface.as_str(), call.member.as_str()),
            ("org.fedoraproject.FirewallD1.direct", "passthrough")
        );
        assert_eq!(call.strings.unwrap(), ["ipv4", "-t", "nat", "-nL", "DOCKER"]);
        assert!(!next_call(&mut &*changed(2, 1)).unwrap().unwrap().wants_answer);
    }

    #[test]
    fn a_message_that_is_no_call_is_passed_over() {
        let mut messages = changed(1, RETURN);
        messages.extend_from_slice(PASSTHROUGH);
        let mut rest = messages.as_slice();
        assert_eq!(next_call(&mut rest).unwrap(), Some(call()));
        assert_eq!(next_call(&mut rest).unwrap(), None);
    }

    #[test]
    fn a_body_of_other_types_has_no_strings() {
        let at = PASSTHROUGH.windows(4).position(|window| window == b"sas\0").unwrap();
        assert_eq!(next_call(&mut &*changed(at + 2, b'u')).unwrap().unwrap().strings, None);
    }

    #[test]
    fn a_damaged_message_is_an_error() {
        // Byte order, version, length of the body, length of a string, a byte of a string.
        for (at, byte) in [(0, b'B'), (3, 2), (7, 0xff), (20, 0xff), (24, 0xff), (PASSTHROUGH.len() - 3, 0xff)] {
            assert_eq!(next_call(&mut &*changed(at, byte)).unwrap_err().kind(), io::ErrorKind::InvalidData, "{at}");
        }
        let half = PASSTHROUGH.len() / 2;
        assert_eq!(next_call(&mut &PASSTHROUGH[..half]).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn answers_have_the_form_of_the_specification() {
        assert_eq!(
            answer(&call(), 7, &Answer::Text("done".to_owned())),
            b"l\x02\x01\x01\x09\x00\x00\x00\x07\x00\x00\x00\x0f\x00\x00\x00\
              \x05\x01u\x00\x02\x00\x00\x00\x08\x01g\x00\x01s\x00\x00\x04\x00\x00\x00done\x00"
        );
        assert_eq!(
            answer(&call(), 1, &Answer::Nothing),
            b"l\x02\x01\x01\x00\x00\x00\x00\x01\x00\x00\x00\x08\x00\x00\x00\x05\x01u\x00\x02\x00\x00\x00"
        );
        let list = answer(&call(), 1, &Answer::List(vec!["a".to_owned(), "bc".to_owned()]));
        assert!(list.ends_with(b"\x02as\x00\x0f\x00\x00\x00\x01\x00\x00\x00a\x00\x00\x00\x02\x00\x00\x00bc\x00"));
        let error = answer(&call(), 1, &Answer::Error("a.B", "why".to_owned()));
        assert_eq!(error.get(1), Some(&ERROR));
        assert!(error.ends_with(
            b"\x04\x01s\x00\x03\x00\x00\x00a.B\x00\x00\x00\x00\x00\x08\x01g\x00\x01s\x00\x00\x03\x00\x00\x00why\x00"
        ));
    }

    #[test]
    fn the_handshake_ends_at_the_first_message() {
        let mut lines: &[u8] = b"\0AUTH\r\nAUTH EXTERNAL 30\r\nNEGOTIATE_UNIX_FD\r\nBEGIN\r\nl";
        let mut answers = Vec::new();
        admit(&mut lines, &mut answers).unwrap();
        let answers = String::from_utf8(answers).unwrap();
        assert_eq!(answers, "REJECTED EXTERNAL\r\nOK 00000000000000000000000000000000\r\nERROR\r\n");
        assert_eq!(lines, b"l");
        assert!(admit(&mut &b"\0AUTH"[..], Vec::new()).is_err());
    }
}
