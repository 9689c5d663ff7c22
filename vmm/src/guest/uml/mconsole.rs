//! The management console of User Mode Linux: datagrams on `<uml_dir>/<umid>/mconsole` (arch/um/drivers/mconsole.h).

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use thiserror::Error;

const MAGIC: u32 = 0xcafe_babe;
const VERSION: u32 = 2;
const DATA_BYTES: usize = 512;
const HEADER_BYTES: usize = 12;
/// Limit for the kernel's answer. It answers from an interrupt, so even a busy guest is quick.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Why a command did not reach the kernel.
#[derive(Debug, Error)]
pub(super) enum MconsoleError {
    /// No answer came, or the socket does not exist (yet, or any more).
    #[error("the guest kernel's management console does not answer: {0}")]
    Unreachable(#[from] io::Error),
    /// The kernel answered with an error.
    #[error("the guest kernel refused {command:?}: {answer}")]
    Refused {
        /// What was asked.
        command: String,
        /// Its answer.
        answer: String,
    },
    /// The answer is malformed.
    #[error("the guest kernel's management console returned an invalid answer")]
    Invalid,
}

/// Sends `command` to the console at `socket`, bound to `own` for the answer; returns the answer's text.
pub(super) fn command(socket: &Path, own: &Path, command: &str) -> Result<String, MconsoleError> {
    match std::fs::remove_file(own) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error.into()),
    }
    let channel = UnixDatagram::bind(own)?;
    channel.set_read_timeout(Some(ANSWER_WITHIN))?;
    channel.set_write_timeout(Some(ANSWER_WITHIN))?;
    channel.send_to(&request(command), socket)?;
    let mut text = String::new();
    let mut answer = [0; HEADER_BYTES + DATA_BYTES];
    loop {
        let length = channel.recv(&mut answer)?;
        let (failed, more) = parse(&answer[..length], &mut text).ok_or(MconsoleError::Invalid)?;
        if failed {
            return Err(MconsoleError::Refused { command: command.to_owned(), answer: text });
        }
        if !more {
            return Ok(text);
        }
    }
}

fn request(command: &str) -> Vec<u8> {
    // The kernel expects the whole structure, its data padded with at least one zero.
    let mut bytes = vec![0; HEADER_BYTES + DATA_BYTES];
    let length = command.len().min(DATA_BYTES - 1);
    bytes[..4].copy_from_slice(&MAGIC.to_ne_bytes());
    bytes[4..8].copy_from_slice(&VERSION.to_ne_bytes());
    bytes[8..12].copy_from_slice(&(length as u32).to_ne_bytes());
    bytes[HEADER_BYTES..HEADER_BYTES + length].copy_from_slice(&command.as_bytes()[..length]);
    bytes
}

/// Appends the text of one answer; returns whether it is an error and whether more follow.
fn parse(answer: &[u8], text: &mut String) -> Option<(bool, bool)> {
    let word = |at: usize| Some(u32::from_ne_bytes(answer.get(at..at + 4)?.try_into().ok()?));
    let (failed, more, length) = (word(0)?, word(4)?, word(8)? as usize);
    let data = answer.get(HEADER_BYTES..)?;
    let data = data.get(..length.min(data.len()))?;
    text.push_str(String::from_utf8_lossy(data).trim_end_matches('\0'));
    Some((failed != 0, more != 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answering(answers: Vec<Vec<u8>>) -> Result<String, MconsoleError> {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("mconsole");
        let kernel = UnixDatagram::bind(&socket).unwrap();
        let thread = std::thread::spawn(move || {
            let mut bytes = [0; 1024];
            let (length, sender) = kernel.recv_from(&mut bytes).unwrap();
            for answer in answers {
                kernel.send_to_addr(&answer, &sender).unwrap();
            }
            bytes[..length].to_vec()
        });
        let outcome = command(&socket, &directory.path().join("own"), "cad");
        let asked = thread.join().unwrap();
        assert_eq!(asked.len(), 524);
        assert_eq!(asked[12..16], *b"cad\0");
        assert_eq!(asked[8..12], 3u32.to_ne_bytes());
        outcome
    }

    fn answer(failed: u32, more: u32, text: &str) -> Vec<u8> {
        let words = [failed, more, text.len() as u32];
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        bytes.extend(text.as_bytes());
        bytes
    }

    #[test]
    fn an_answer_in_parts_is_joined() {
        assert_eq!(answering(vec![answer(0, 1, "O"), answer(0, 0, "K")]).unwrap(), "OK");
    }

    #[test]
    fn a_refusal_carries_the_kernels_words() {
        let error = answering(vec![answer(1, 0, "Unknown command")]).unwrap_err();
        assert!(error.to_string().contains("Unknown command"));
    }

    #[test]
    fn a_short_answer_is_invalid() {
        assert!(matches!(answering(vec![vec![0; 5]]).unwrap_err(), MconsoleError::Invalid));
    }
}
