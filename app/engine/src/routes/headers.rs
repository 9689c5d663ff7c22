//! A proxy's changes to the fields of a message (RFC 9110 §7.6).

use std::net::IpAddr;

use hyper::{
    HeaderMap,
    header::{
        CONNECTION, HeaderName, HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE,
    },
};

use super::Scheme;

/// Fields that belong to one connection, besides those `Connection` names.
const ONE_CONNECTION: [HeaderName; 8] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The protocol the client asks to upgrade to, if any.
pub(super) fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let asked = named_by_connection(headers).contains(&UPGRADE);
    headers.get(UPGRADE).filter(|_| asked).cloned()
}

/// Removes the fields that belong to the message's own connection. `upgrade` is passed on.
pub(super) fn pass_on(headers: &mut HeaderMap, upgrade: Option<HeaderValue>) {
    for name in named_by_connection(headers) {
        headers.remove(name);
    }
    for name in ONE_CONNECTION {
        headers.remove(name);
    }
    if let Some(protocol) = upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocol);
    }
}

/// Adds the client's address and scheme for the container, instead of what the client itself claims.
pub(super) fn tell_sender(headers: &mut HeaderMap, client: IpAddr, scheme: Scheme) {
    if let Ok(client) = HeaderValue::from_str(&client.to_string()) {
        headers.insert(FORWARDED_FOR, client);
    }
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static(scheme.as_str()));
}

fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    let lines = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).filter_map(|name| name.trim().parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn what_belongs_to_one_connection_ends_with_it() {
        let mut message = headers(&[
            ("connection", "close, X-Mine"),
            ("x-mine", "1"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("accept", "*/*"),
        ]);
        pass_on(&mut message, None);
        assert_eq!(message, headers(&[("accept", "*/*")]));
    }

    #[test]
    fn an_upgrade_is_one_only_if_both_fields_say_so() {
        assert_eq!(upgrade(&headers(&[("upgrade", "websocket")])), None);
        let mut asks = headers(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")]);
        let protocol = upgrade(&asks);
        assert_eq!(protocol.as_ref().unwrap(), "websocket");
        pass_on(&mut asks, protocol);
        assert_eq!(asks, headers(&[("connection", "upgrade"), ("upgrade", "websocket")]));
    }

    #[test]
    fn the_sender_is_told_and_not_believed() {
        let mut message = headers(&[("x-forwarded-for", "10.0.0.1"), ("x-forwarded-proto", "https")]);
        tell_sender(&mut message, IpAddr::from([127, 0, 0, 1]), Scheme::Http);
        assert_eq!(message, headers(&[("x-forwarded-for", "127.0.0.1"), ("x-forwarded-proto", "http")]));
    }
}
