//! Messages of the domain name system (RFC 1035). A query is read only up to the end of its question, and an answer is
//! built from it.

use std::net::IpAddr;

use crate::net::wire::word;

/// Bytes of the header.
pub(super) const HEADER_BYTES: usize = 12;
/// Longest name, with the lengths of its labels, in bytes.
const MAX_NAME_BYTES: usize = 255;
const CLASS_INTERNET: u16 = 1;
/// Time to live of a local record, in seconds.
const LOCAL_SECONDS: u32 = 60;

/// Record types.
pub(super) const A: u16 = 1;
const SOA: u16 = 6;
pub(super) const PTR: u16 = 12;
pub(super) const AAAA: u16 = 28;
pub(super) const ANY: u16 = 255;

/// Response codes.
pub(super) const NO_ERROR: u8 = 0;
pub(super) const FORMAT_ERROR: u8 = 1;
pub(super) const SERVER_FAILURE: u8 = 2;
pub(super) const NAME_ERROR: u8 = 3;
pub(super) const NOT_IMPLEMENTED: u8 = 4;

/// The question of a query.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Question {
    /// In lower case, labels joined by dots, without the trailing dot.
    pub(super) name: String,
    pub(super) kind: u16,
    /// Whether its class is Internet.
    pub(super) internet: bool,
    /// First byte after the question.
    pub(super) end: usize,
}

/// What to do with a message of a guest.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Query {
    /// Answer it or pass it on.
    Ask(Question),
    /// Refuse it with this response code.
    Refuse(u8),
    /// Nothing: it is not a query, or too short to be answered.
    Ignore,
}

/// Reads a query.
pub(super) fn read_query(message: &[u8]) -> Query {
    let (Some(flags), Some(questions)) = (word(message, 2), word(message, 4)) else { return Query::Ignore };
    if message.len() < HEADER_BYTES || flags & 0x8000 != 0 {
        return Query::Ignore;
    }
    if flags & 0x7800 != 0 {
        return Query::Refuse(NOT_IMPLEMENTED);
    }
    if questions != 1 {
        return Query::Refuse(FORMAT_ERROR);
    }
    match question(message) {
        Some(question) => Query::Ask(question),
        None => Query::Refuse(FORMAT_ERROR),
    }
}

/// Reads the first question. None if its name contains pointers: nothing before it can be pointed at.
pub(super) fn question(message: &[u8]) -> Option<Question> {
    let (mut at, mut name) = (HEADER_BYTES, String::new());
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        if length > 63 || at + length - HEADER_BYTES >= MAX_NAME_BYTES {
            return None;
        }
        if !name.is_empty() {
            name.push('.');
        }
        // Bytes beyond ASCII and dots within labels match no local name, whatever they become here.
        let label = message.get(at..at + length)?;
        name.extend(label.iter().map(|byte| if *byte == b'.' { '?' } else { char::from(byte.to_ascii_lowercase()) }));
        at += length;
    }
    let (kind, class) = (word(message, at)?, word(message, at + 2)?);
    Some(Question { name, kind, internet: class == CLASS_INTERNET, end: at + 4 })
}

/// A record of an answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Record {
    Address(IpAddr),
    /// The name of an address.
    Name(String),
}

/// The answer to `query`, whose question ends at `end`, with records of the name asked for. `zone` is the local zone
/// that answers; a negative answer names it, so that the guest may cache the answer.
pub(super) fn answer(query: &[u8], end: usize, code: u8, records: &[Record], zone: Option<&str>) -> Vec<u8> {
    let question = query.get(HEADER_BYTES..end).unwrap_or_default();
    let negative = zone.filter(|_| records.is_empty());
    let mut message = Vec::with_capacity(512);
    message.extend(query.get(..2).unwrap_or(&[0, 0]));
    // An answer; recursion desired as in the query, and available; authoritative for local names.
    let asked = query.get(2).copied().unwrap_or(0) & 0x79;
    message.push(0x80 | asked | if zone.is_some() { 4 } else { 0 });
    message.push(0x80 | code);
    for count in [usize::from(!question.is_empty()), records.len(), usize::from(negative.is_some()), 0] {
        message.extend((count as u16).to_be_bytes());
    }
    message.extend(question);
    for record in records {
        let (kind, data) = match record {
            Record::Address(IpAddr::V4(address)) => (A, address.octets().to_vec()),
            Record::Address(IpAddr::V6(address)) => (AAAA, address.octets().to_vec()),
            Record::Name(name) => (PTR, encode_name(name)),
        };
        // A pointer to the question's name.
        message.extend([0xc0, HEADER_BYTES as u8]);
        write_record(&mut message, kind, &data);
    }
    if let Some(zone) = negative {
        message.extend(encode_name(zone));
        let mut data = encode_name(zone);
        data.extend(encode_name(&format!("rorqual.{zone}")));
        // Serial, refresh, retry, expire, and how long a negative answer is cached (RFC 2308).
        for number in [1, 3600, 600, 86_400, LOCAL_SECONDS] {
            data.extend(number.to_be_bytes());
        }
        write_record(&mut message, SOA, &data);
    }
    message
}

/// Writes what follows the name of a record.
fn write_record(message: &mut Vec<u8>, kind: u16, data: &[u8]) {
    message.extend(kind.to_be_bytes());
    message.extend(CLASS_INTERNET.to_be_bytes());
    message.extend(LOCAL_SECONDS.to_be_bytes());
    message.extend((data.len() as u16).to_be_bytes());
    message.extend(data);
}

/// A name as it appears in a message.
pub(super) fn encode_name(name: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(name.len() + 2);
    for label in name.split('.').filter(|label| !label.is_empty()) {
        bytes.push(label.len().min(63) as u8);
        bytes.extend(label.bytes().take(63));
    }
    bytes.push(0);
    bytes
}

/// A query for tests.
#[cfg(test)]
pub(crate) fn query(id: u16, name: &str, kind: u16) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    message.extend(encode_name(name));
    message.extend(kind.to_be_bytes());
    message.extend(CLASS_INTERNET.to_be_bytes());
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_read_in_lower_case() {
        let message = query(7, "Host.Docker.INTERNAL", AAAA);
        let Query::Ask(question) = read_query(&message) else { panic!() };
        assert_eq!((question.name.as_str(), question.kind), ("host.docker.internal", AAAA));
        assert!(question.internet);
        assert_eq!(question.end, message.len());
    }

    #[test]
    fn what_is_no_query_is_not_answered_and_what_is_wrong_is_refused() {
        let good = query(7, "a.b", A);
        for length in 0..HEADER_BYTES {
            assert_eq!(read_query(&good[..length]), Query::Ignore);
        }
        for length in HEADER_BYTES..good.len() {
            assert_eq!(read_query(&good[..length]), Query::Refuse(FORMAT_ERROR));
        }
        let with = |at: usize, byte: u8| {
            let mut message = good.clone();
            message[at] = byte;
            read_query(&message)
        };
        assert_eq!(with(2, 0x80), Query::Ignore, "an answer");
        assert_eq!(with(2, 0x28), Query::Refuse(NOT_IMPLEMENTED), "an update");
        assert_eq!(with(5, 2), Query::Refuse(FORMAT_ERROR), "two questions");
        assert_eq!(with(HEADER_BYTES, 0xc0), Query::Refuse(FORMAT_ERROR), "a pointer");
    }

    #[test]
    fn an_answer_repeats_the_question_and_a_no_names_its_zone() {
        let asked = query(7, "a.docker.internal", A);
        let yes =
            answer(&asked, asked.len(), NO_ERROR, &[Record::Address([1, 2, 3, 4].into())], Some("docker.internal"));
        assert_eq!(yes[..2], [0, 7]);
        assert_eq!(question(&yes), question(&asked));
        assert_eq!((word(&yes, 6), word(&yes, 8)), (Some(1), Some(0)));
        assert_eq!(yes[yes.len() - 4..], [1, 2, 3, 4]);
        let no = answer(&asked, asked.len(), NAME_ERROR, &[], Some("docker.internal"));
        assert_eq!((no[3] & 15, word(&no, 6), word(&no, 8)), (NAME_ERROR, Some(0), Some(1)));
    }
}
