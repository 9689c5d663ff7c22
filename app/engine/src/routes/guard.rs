//! Protection against requests that a browser makes for a foreign page. Containers here were never meant for the
//! internet: its pages may link to them but not make requests.

use hyper::{
    HeaderMap, Method, Uri,
    header::{HeaderName, ORIGIN, REFERER},
};

const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// Whether a foreign page must not make this request: it neither opens a page by a link nor comes from a page of this
/// computer. Programs other than browsers send none of these headers.
pub(super) fn is_foreign(method: &Method, headers: &HeaderMap) -> bool {
    let text = |name: &HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let from = text(&ORIGIN).or_else(|| text(&REFERER));
    if from.is_some_and(is_local) {
        return false;
    }
    let opens_a_page = text(&MODE) == Some("navigate") && matches!(*method, Method::GET | Method::HEAD);
    // Browsers send the origin with every request that can change something or whose answer can be read.
    let elsewhere = text(&SITE) == Some("cross-site") || headers.contains_key(ORIGIN);
    elsewhere && !opens_a_page
}

/// Whether an origin is this computer's: `http://localhost:3000`, `https://web.rorqual.localhost`.
fn is_local(origin: &str) -> bool {
    let Ok(uri) = origin.parse::<Uri>() else { return false };
    let host = uri.host().unwrap_or_default().to_ascii_lowercase();
    matches!(host.as_str(), "localhost" | "127.0.0.1" | "[::1]") || host.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn foreign(method: &Method, headers: &[(&'static str, &'static str)]) -> bool {
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        is_foreign(method, &headers)
    }

    #[test]
    fn a_page_of_the_internet_can_lead_here_and_do_nothing_else() {
        let cross = ("sec-fetch-site", "cross-site");
        assert!(!foreign(&Method::GET, &[cross, ("sec-fetch-mode", "navigate"), ("referer", "https://example.com/")]));
        assert!(foreign(&Method::GET, &[cross, ("sec-fetch-mode", "no-cors"), ("referer", "https://example.com/")]));
        assert!(foreign(&Method::GET, &[cross, ("sec-fetch-mode", "no-cors")]));
        assert!(foreign(&Method::POST, &[cross, ("sec-fetch-mode", "navigate"), ("origin", "https://example.com")]));
        assert!(foreign(&Method::GET, &[("origin", "https://example.com")]));
        assert!(foreign(&Method::POST, &[("origin", "null")]));
        assert!(foreign(&Method::POST, &[("origin", "http://localhost.example.com")]));
    }

    #[test]
    fn pages_of_this_computer_and_programs_ask_what_they_like() {
        assert!(!foreign(&Method::POST, &[]));
        for origin in ["http://web.rorqual.localhost:7080", "http://localhost:3000", "http://[::1]:8080"] {
            assert!(!foreign(&Method::POST, &[("sec-fetch-site", "cross-site"), ("origin", origin)]), "{origin}");
        }
        assert!(!foreign(&Method::GET, &[("sec-fetch-site", "same-origin"), ("sec-fetch-mode", "cors")]));
    }
}
