//! The header of a forwarded stream.
//!
//! The host opens a stream to [`FORWARD_PORT`](crate::FORWARD_PORT), writes one line `TCP <address>:<port>\n` and sends
//! the client's bytes without waiting. The guest connects to the address and answers with one line, `OK\n` or `ERR
//! <reason>\n`. After `OK` the rest of both directions belongs to the connection, half-close included. After `ERR` the
//! guest closes the stream.

use std::net::SocketAddr;

use thiserror::Error;

/// Longest header line or answer line either side accepts, newline included, in bytes.
pub const MAX_LINE: usize = 256;

/// Why a header or an answer was refused.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ForwardError {
    /// The header does not read `TCP <address>:<port>`.
    #[error("not a forward header: {0:?}")]
    BadHeader(String),
    /// The answer is neither `OK` nor `ERR <reason>`.
    #[error("not a forward answer: {0:?}")]
    BadAnswer(String),
    /// The guest could not connect.
    #[error("the guest could not connect: {0}")]
    Refused(String),
}

/// The header line for a TCP stream to `target`, newline included.
pub fn header(target: SocketAddr) -> String {
    format!("TCP {target}\n")
}

/// Reads a header line; the newline may be left on.
pub fn parse_header(line: &str) -> Result<SocketAddr, ForwardError> {
    line.trim_end_matches('\n')
        .strip_prefix("TCP ")
        .and_then(|address| address.parse().ok())
        .ok_or_else(|| ForwardError::BadHeader(line.to_owned()))
}

/// The guest's answer line, newline included. Line breaks in a reason become spaces.
pub fn answer(result: Result<(), &str>) -> String {
    match result {
        Ok(()) => "OK\n".to_owned(),
        Err(reason) => {
            let mut line = format!("ERR {}", reason.replace(['\n', '\r'], " "));
            let mut end = line.len().min(MAX_LINE - 1);
            while !line.is_char_boundary(end) {
                end -= 1;
            }
            line.truncate(end);
            line.push('\n');
            line
        }
    }
}

/// Reads an answer line; the newline may be left on.
pub fn parse_answer(line: &str) -> Result<(), ForwardError> {
    let text = line.trim_end_matches('\n');
    if text == "OK" {
        return Ok(());
    }
    match text.strip_prefix("ERR ") {
        Some(reason) => Err(ForwardError::Refused(reason.to_owned())),
        None => Err(ForwardError::BadAnswer(line.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_reads_back_as_it_was_written() {
        for text in ["172.17.0.2:80", "[fd00::2]:8080"] {
            let target: SocketAddr = text.parse().unwrap();
            assert_eq!(parse_header(&header(target)), Ok(target));
        }
    }

    #[test]
    fn a_header_that_names_no_address_is_refused() {
        for line in ["", "TCP", "TCP \n", "UDP 1.2.3.4:5\n", "TCP host:80\n", "TCP 1.2.3.4:70000\n"] {
            assert!(parse_header(line).is_err(), "{line:?}");
        }
    }

    #[test]
    fn an_answer_carries_the_reason_on_one_short_line() {
        assert_eq!(parse_answer(&answer(Ok(()))), Ok(()));
        let long = "é\n".repeat(400);
        let line = answer(Err(&long));
        assert!(line.len() <= MAX_LINE && line.ends_with('\n') && line.matches('\n').count() == 1);
        assert!(matches!(parse_answer(&line), Err(ForwardError::Refused(_))));
        assert!(matches!(parse_answer("maybe\n"), Err(ForwardError::BadAnswer(_))));
    }
}
