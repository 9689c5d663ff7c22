//! Access control of the pages: the browser that opens the printed address gets in; other users of this computer and
//! pages of other sites do not.
//!
//! The address carries a token that is valid once and for ten minutes. It is exchanged for a cookie that scripts cannot
//! read and that no other site's request carries. Every request must name this server as its host, so that a foreign
//! name that resolves to this server (DNS rebinding) gets nothing. Calls and streams must come from these pages.

use std::{
    fs::File,
    io::{self, Read},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Validity of the printed address.
const TOKEN_LIVES: Duration = Duration::from_mins(10);
/// Maximum number of browsers with access; a new one replaces the oldest.
const SESSIONS: usize = 16;

/// The tokens and cookies that are valid.
#[derive(Debug)]
pub(super) struct Guard {
    port: u16,
    secrets: Mutex<Secrets>,
}

#[derive(Debug)]
struct Secrets {
    random: File,
    tokens: Vec<(String, Instant)>,
    sessions: Vec<String>,
}

impl Guard {
    /// # Errors
    ///
    /// The system has no random numbers.
    pub(super) fn new(port: u16) -> io::Result<Self> {
        let random = File::open("/dev/urandom")?;
        Ok(Self { port, secrets: Mutex::new(Secrets { random, tokens: Vec::new(), sessions: Vec::new() }) })
    }

    fn secrets(&self) -> MutexGuard<'_, Secrets> {
        self.secrets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A token that opens the pages once.
    pub(super) fn new_token(&self) -> String {
        let mut secrets = self.secrets();
        let token = secrets.secret();
        secrets.tokens.push((token.clone(), Instant::now()));
        token
    }

    /// Exchanges a token for a cookie; `None` if the token is unknown, used or expired.
    pub(super) fn redeem(&self, token: &str) -> Option<String> {
        self.redeem_at(token, Instant::now())
    }

    fn redeem_at(&self, token: &str, now: Instant) -> Option<String> {
        let mut secrets = self.secrets();
        secrets.tokens.retain(|(_, made)| now.duration_since(*made) < TOKEN_LIVES);
        let index = secrets.tokens.iter().position(|(known, _)| same(known, token))?;
        secrets.tokens.swap_remove(index);
        let session = secrets.secret();
        if secrets.sessions.len() == SESSIONS {
            secrets.sessions.remove(0);
        }
        secrets.sessions.push(session.clone());
        Some(format!("{}={session}; Path=/; HttpOnly; SameSite=Strict", self.cookie_name()))
    }

    /// Whether a `Cookie` header grants access.
    pub(super) fn knows(&self, cookies: &str) -> bool {
        let name = self.cookie_name();
        let given =
            cookies.split(';').filter_map(|cookie| cookie.trim().split_once('=')).filter(|(key, _)| *key == name);
        let secrets = self.secrets();
        given.into_iter().any(|(_, value)| secrets.sessions.iter().any(|known| same(known, value)))
    }

    /// Cookies ignore ports; the name has the port, so that two servers of one user do not overwrite each other's
    /// cookie.
    fn cookie_name(&self) -> String {
        format!("rorqual-{}", self.port)
    }

    /// Whether a `Host` header names this server.
    pub(super) fn is_host(&self, host: &str) -> bool {
        let Some((name, port)) = host.rsplit_once(':') else { return false };
        port == self.port.to_string() && matches!(name, "localhost" | "127.0.0.1" | "[::1]")
    }

    /// Whether an `Origin` header names the pages of this server.
    pub(super) fn is_origin(&self, origin: &str, host: &str) -> bool {
        self.is_host(host) && origin.strip_prefix("http://") == Some(host)
    }
}

impl Secrets {
    /// 32 random bytes as text.
    fn secret(&mut self) -> String {
        let mut bytes = [0; 32];
        // An open /dev/urandom never fails and never ends (random(4)). Panicking is safer than a secret that can be
        // guessed.
        #[expect(clippy::expect_used)]
        self.random.read_exact(&mut bytes).expect("the system has no random numbers");
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Compares in constant time, which reveals nothing about the position of a difference.
fn same(one: &str, other: &str) -> bool {
    one.len() == other.len()
        && one.bytes().zip(other.bytes()).fold(0, |difference, (one, other)| difference | (one ^ other)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(cookie: &str) -> &str {
        cookie.split(';').next().unwrap()
    }

    #[test]
    fn a_token_opens_once_and_not_for_ever() {
        let guard = Guard::new(80).unwrap();
        let token = guard.new_token();
        assert_eq!(guard.redeem("0000"), None);
        let cookie = guard.redeem(&token).unwrap();
        assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"));
        assert!(guard.knows(&format!("theme=dark; {}", value(&cookie))));
        assert_eq!(guard.redeem(&token), None);
        let late = guard.new_token();
        assert_eq!(guard.redeem_at(&late, Instant::now() + TOKEN_LIVES), None);
    }

    #[test]
    fn only_cookies_of_this_server_are_known() {
        let guard = Guard::new(80).unwrap();
        let cookie = guard.redeem(&guard.new_token()).unwrap();
        let secret = value(&cookie).split_once('=').unwrap().1;
        for wrong in
            ["", "rorqual-80=", "rorqual-80=0", &format!("rorqual-81={secret}"), &format!("rorqual-80={secret}0")]
        {
            assert!(!guard.knows(wrong), "{wrong}");
        }
    }

    #[test]
    fn the_oldest_session_is_out_for_the_next() {
        let guard = Guard::new(80).unwrap();
        let cookies: Vec<_> = (0..=SESSIONS).map(|_| guard.redeem(&guard.new_token()).unwrap()).collect();
        assert!(!guard.knows(value(&cookies[0])));
        assert!(guard.knows(value(&cookies[1])) && guard.knows(value(&cookies[SESSIONS])));
    }

    #[test]
    fn another_name_or_origin_is_not_this_server() {
        let guard = Guard::new(4000).unwrap();
        for host in ["localhost:4000", "127.0.0.1:4000", "[::1]:4000"] {
            assert!(guard.is_host(host) && guard.is_origin(&format!("http://{host}"), host), "{host}");
        }
        for host in ["localhost", "localhost:4001", "evil.test:4000", "localhost.evil.test:4000", ""] {
            assert!(!guard.is_host(host), "{host}");
        }
        assert!(!guard.is_origin("http://evil.test", "localhost:4000"));
        assert!(!guard.is_origin("https://localhost:4000", "localhost:4000"));
        assert!(!guard.is_origin("null", "localhost:4000"));
    }
}
