//! Removes secrets from what leaves this computer.
//!
//! Three rules, each sufficient alone: a value after a secret-looking name (`DB_PASSWORD=…`, `"token": "…"`), a value
//! with the form of a secret (a key block, `ghp_…`, credentials in a URL), and every value that a container's
//! secret-looking variable holds, wherever it appears.

use serde_json::Value;

/// Replaces a secret.
pub(super) const REMOVED: &str = "(removed)";
/// Minimum length of a value to remove everywhere; shorter ones are common words, and a log without them would be
/// unreadable.
const SHORTEST: usize = 6;

const SECRET_WORDS: [&str; 17] = [
    "apikey",
    "auth",
    "auths",
    "authorization",
    "cookie",
    "credential",
    "credentials",
    "identitytoken",
    "pass",
    "passphrase",
    "passwd",
    "password",
    "privatekey",
    "pwd",
    "secret",
    "secrets",
    "token",
];
/// Parts of secret-looking names, also within longer words: `PGPASSWORD`, `authtoken`.
const SECRET_PARTS: [&str; 4] = ["password", "passwd", "secret", "token"];
/// Prefixes of tokens of well-known services.
const TOKEN_STARTS: [&str; 10] =
    ["ghp_", "gho_", "ghs_", "github_pat_", "glpat-", "dckr_pat_", "dckr_oat_", "xoxb-", "AKIA", "sk-"];
/// Words between `Authorization:` and the secret.
const SCHEMES: [&str; 4] = ["bearer", "basic", "negotiate", "token"];

/// Whether a value with this name must not be shown.
pub(super) fn is_secret_name(name: &str) -> bool {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut before = ' ';
    for sign in name.chars() {
        // A word also starts at a capital after a small letter: registryToken.
        if !sign.is_ascii_alphanumeric() || (sign.is_ascii_uppercase() && before.is_ascii_lowercase()) {
            words.push(std::mem::take(&mut word));
        }
        if sign.is_ascii_alphanumeric() {
            word.push(sign.to_ascii_lowercase());
        }
        before = sign;
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    let ends_in_key = words.len() > 1 && words.last().is_some_and(|word| word == "key");
    ends_in_key
        || words
            .iter()
            .any(|word| SECRET_WORDS.contains(&word.as_str()) || SECRET_PARTS.iter().any(|part| word.contains(part)))
}

/// Redacts texts and documents.
#[derive(Debug, Default)]
pub(super) struct Redaction {
    values: Vec<String>,
}

impl Redaction {
    /// Records the values of secret-looking variables (`NAME=value`), to remove them everywhere.
    pub(super) fn learn<'a>(&mut self, variables: impl IntoIterator<Item = &'a str>) {
        for variable in variables {
            if let Some((name, value)) = variable.split_once('=')
                && is_secret_name(name)
            {
                self.learn_value(value);
            }
        }
    }

    /// Records one secret.
    pub(super) fn learn_value(&mut self, value: &str) {
        if value.len() >= SHORTEST && !self.values.iter().any(|known| known == value) {
            self.values.push(value.to_owned());
            // The longest first, since one may be part of another.
            self.values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        }
    }

    /// A text without its secrets.
    pub(super) fn text(&self, text: &str) -> String {
        let mut clean = String::with_capacity(text.len());
        let mut in_key = false;
        for line in text.split_inclusive('\n') {
            if in_key {
                in_key = !line.contains("-----END");
                continue;
            }
            if line.contains("-----BEGIN") && line.contains("PRIVATE KEY") {
                in_key = !line.contains("-----END");
                clean.push_str(REMOVED);
                clean.push('\n');
                continue;
            }
            let mut line = shapes(&pairs(&addresses(line)));
            for value in &self.values {
                if line.contains(value.as_str()) {
                    line = line.replace(value.as_str(), REMOVED);
                }
            }
            clean.push_str(&line);
        }
        clean
    }

    /// A document without its secrets.
    pub(super) fn document(&self, document: &mut Value) {
        match document {
            Value::String(text) => *text = self.text(text),
            Value::Array(items) => {
                let mut hide_next = false;
                for item in items {
                    if hide_next && item.is_string() {
                        *item = Value::from(REMOVED);
                        hide_next = false;
                        continue;
                    }
                    // The words of a command line: `--password`, then the password.
                    hide_next = item.as_str().is_some_and(is_secret_option);
                    if let Value::String(text) = &*item
                        && let Some((name, _)) = text.split_once('=')
                        && is_secret_name(name)
                    {
                        // To its end, which may be several lines below.
                        *item = Value::from(format!("{name}={REMOVED}"));
                        continue;
                    }
                    self.document(item);
                }
            }
            Value::Object(fields) => {
                for (name, value) in fields {
                    if is_secret_name(name) && !value.is_boolean() && !value.is_null() {
                        *value = Value::from(REMOVED);
                    } else {
                        self.document(value);
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

/// An option `--password` whose value is the next word.
fn is_secret_option(word: &str) -> bool {
    word.strip_prefix("--").is_some_and(|name| !name.contains('=') && is_secret_name(name))
}

/// Removes the credentials from `scheme://user:password@host`.
fn addresses(line: &str) -> String {
    let mut clean = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        clean.push_str(before);
        let end = after.find(|sign: char| sign.is_whitespace() || "/\"'?#<>".contains(sign)).unwrap_or(after.len());
        let (authority, after) = after.split_at(end);
        match authority.rsplit_once('@') {
            Some((_, host)) => {
                clean.push_str(REMOVED);
                clean.push('@');
                clean.push_str(host);
            }
            None => clean.push_str(authority),
        }
        rest = after;
    }
    clean + rest
}

/// Removes the values of secret-looking names from `name=value`, `name: value` and `"name":"value"`.
fn pairs(line: &str) -> String {
    let part_of_name = |sign: char| sign.is_ascii_alphanumeric() || "_-.".contains(sign);
    let mut clean = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find(['=', ':']) {
        let (before, after) = rest.split_at(at);
        let sign = &after[..1];
        let after = &after[1..];
        clean.push_str(before);
        clean.push_str(sign);
        rest = after;
        let named = before.trim_end_matches(['"', '\'', '\\', ' ']);
        let begin = named
            .rfind(|sign: char| !part_of_name(sign))
            .map_or(0, |index| index + named[index..].chars().next().map_or(1, char::len_utf8));
        if !is_secret_name(&named[begin..]) {
            continue;
        }
        let value = after.trim_start_matches([' ', '"', '\'', '\\']);
        let opening = &after[..after.len() - value.len()];
        let quote = opening.chars().rfind(|sign| matches!(sign, '"' | '\''));
        let end_of = |text: &str| {
            text.find(|sign: char| match quote {
                Some(quote) => sign == quote || sign == '\\',
                None => sign.is_whitespace() || ",&;\"')}]".contains(sign),
            })
            .unwrap_or_else(|| text.trim_end_matches(['\r', '\n']).len())
        };
        let mut end = end_of(value);
        if quote.is_none() && SCHEMES.contains(&value[..end].to_ascii_lowercase().as_str()) {
            let secret = value[end..].trim_start_matches(' ');
            end = value.len() - secret.len() + end_of(secret);
        }
        if end > 0 {
            clean.push_str(opening);
            clean.push_str(REMOVED);
            rest = &value[end..];
        }
    }
    clean + rest
}

/// Removes words with the form of a secret, and those after `--password`.
fn shapes(line: &str) -> String {
    let part_of_token = |sign: char| sign.is_ascii_alphanumeric() || "_-./+=".contains(sign);
    let mut clean = String::with_capacity(line.len());
    let mut hide = false;
    let mut rest = line;
    while !rest.is_empty() {
        let end = rest.find(|sign: char| !part_of_token(sign)).unwrap_or(rest.len());
        if end == 0 {
            let sign = rest.chars().next().map_or(1, char::len_utf8);
            clean.push_str(&rest[..sign]);
            rest = &rest[sign..];
            continue;
        }
        let (word, after) = rest.split_at(end);
        let known = word.len() >= 16 && TOKEN_STARTS.iter().any(|start| word.starts_with(start));
        // A JSON web token (RFC 7519): three parts, the first an object in base64.
        let web_token = word.starts_with("eyJ") && word.matches('.').count() == 2;
        if hide || known || web_token {
            clean.push_str(REMOVED);
        } else {
            clean.push_str(word);
        }
        hide = is_secret_option(word);
        rest = after;
    }
    clean
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_of_secrets_are_known_by_their_words() {
        for name in [
            "PASSWORD",
            "DB_PASSWORD",
            "PGPASSWORD",
            "MYSQL_PWD",
            "api_key",
            "AWS_SECRET_ACCESS_KEY",
            "registryToken",
            "X-Registry-Auth",
            "Authorization",
            "client-secret",
            "auths",
            "identitytoken",
            "GITHUB_TOKEN",
        ] {
            assert!(is_secret_name(name), "{name}");
        }
        for name in ["PATH", "author", "AUTHORITY", "KEY", "keyboard", "passenger", "compass", "SecurityOptions", ""] {
            assert!(!is_secret_name(name), "{name}");
        }
    }

    #[test]
    fn texts_lose_what_secret_names_stand_before() {
        let redaction = Redaction::default();
        for (text, clean) in [
            ("DB_PASSWORD=hunter2 next", "DB_PASSWORD=(removed) next"),
            ("a token: abc, b", "a token: (removed), b"),
            ("{\"token\":\"a b\",\"x\":1}", "{\"token\":\"(removed)\",\"x\":1}"),
            ("msg=\"{\\\"auth\\\":\\\"abc\\\"}\"", "msg=\"{\\\"auth\\\":\\\"(removed)\\\"}\""),
            ("Authorization: Bearer abc.def\r\n", "Authorization: (removed)\r\n"),
            ("GET /x?access_token=abc&y=1", "GET /x?access_token=(removed)&y=1"),
            ("https://me:pw@host.test/x and http://plain.test", "https://(removed)@host.test/x and http://plain.test"),
            ("login --password hunter2 -v", "login --password (removed) -v"),
            ("used ghp_0123456789abcdef0123 here", "used (removed) here"),
            ("jwt eyJhbGciOi.eyJzdWIi.c2ln.", "jwt eyJhbGciOi.eyJzdWIi.c2ln."),
            ("jwt eyJhbGciOi.eyJzdWIi.c2ln", "jwt (removed)"),
            ("level=info msg=\"12:30:01 started\"", "level=info msg=\"12:30:01 started\""),
            ("größe=3 passwört: x", "größe=3 passwört: x"),
        ] {
            assert_eq!(redaction.text(text), clean, "{text}");
        }
    }

    #[test]
    fn key_blocks_are_gone_as_a_whole() {
        let text = "before\n-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabc\n-----END RSA PRIVATE KEY-----\nafter\n";
        assert_eq!(Redaction::default().text(text), "before\n(removed)\nafter\n");
    }

    #[test]
    fn a_known_value_is_gone_wherever_it_is() {
        let mut redaction = Redaction::default();
        redaction.learn(["DB_PASSWORD=correct horse", "HOME=/home/me", "TOKEN=abc"]);
        assert_eq!(redaction.text("trying correct horse in /home/me, abc"), "trying (removed) in /home/me, abc");
    }

    #[test]
    fn documents_keep_their_shape() {
        let mut document = json!({
            "Config": {
                "Env": ["PATH=/bin", "API_KEY=line one\nline two"], "Cmd": ["serve", "--token", "abc", "--port", "80"],
                "Labels": {"password": "x", "author": "me"},
            },
            "auths": {"example.test": {"auth": "dXNlcg=="}},
            "HasSecrets": true,
        });
        Redaction::default().document(&mut document);
        assert_eq!(
            document,
            json!({
                "Config": {
                    "Env": ["PATH=/bin", "API_KEY=(removed)"], "Cmd": ["serve", "--token", "(removed)", "--port", "80"],
                    "Labels": {"password": "(removed)", "author": "me"},
                },
                "auths": "(removed)",
                "HasSecrets": true,
            })
        );
    }
}
