//! `rorqual https`: the local authority in the stores of trust of the system ([`system`]) and of browsers ([`browsers`]).
//!
//! Nothing here asks for rights: what needs them is said as the one command that does it.

mod browsers;
mod system;

use rorqual_engine::{
    home::Home,
    routes::authority::{Authority, Files},
};
use serde_json::{Value, json};

use crate::{
    arguments::HttpsCommand,
    exit::Exit,
    failure::Failure,
    session::{self, Session},
};
use browsers::Browsers;
use system::SystemStore;

/// What came of one store.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// It is as wanted.
    Done,
    /// Run this to make it so.
    Todo(String),
}

/// The authority as stores know it.
struct Certificate {
    name: String,
    fingerprint: String,
    pem: String,
    path: std::path::PathBuf,
}

impl Certificate {
    fn open(home: &Home) -> Result<Self, Failure> {
        let authority = Authority::open(home).map_err(|error| Failure::coded(&error))?;
        Ok(Self {
            name: authority.name().to_owned(),
            fingerprint: authority.fingerprint(),
            pem: authority.pem(),
            path: Files::of(home).certificate(),
        })
    }
}

/// Files are read and programs waited for: nothing else goes on in this process.
pub(crate) fn run(session: &Session, command: HttpsCommand) -> Result<(), Failure> {
    match command {
        HttpsCommand::Status => status(&session.home, session.json),
        HttpsCommand::Trust => change(session, true),
        HttpsCommand::Untrust => change(session, false),
    }
}

/// Puts the authority into every store, or takes it out.
fn change(session: &Session, trust: bool) -> Result<(), Failure> {
    if !trust && !Files::of(&session.home).key().exists() {
        return report(session, trust, &[]);
    }
    let certificate = Certificate::open(&session.home)?;
    let outcomes = [
        ("browsers", Browsers::of_user().set(&certificate, trust)?),
        ("system", SystemStore::debian().set(&certificate, trust)?),
    ];
    report(session, trust, &outcomes)
}

fn report(session: &Session, trust: bool, outcomes: &[(&str, Outcome)]) -> Result<(), Failure> {
    let todo: Vec<&str> = outcomes
        .iter()
        .filter_map(|(_, outcome)| match outcome {
            Outcome::Todo(command) => Some(command.as_str()),
            Outcome::Done => None,
        })
        .collect();
    if session.json {
        let stores: serde_json::Map<String, Value> =
            outcomes.iter().map(|(name, outcome)| ((*name).to_owned(), json!(*outcome == Outcome::Done))).collect();
        session::print_json(&json!({"trusted": trust && todo.is_empty(), "done": stores, "todo": todo}))?;
    } else if todo.is_empty() && !session.quiet {
        session::print_text(if trust {
            "The authority is trusted. Restart browsers that are open.\n"
        } else {
            "The authority is not trusted any more.\n"
        })?;
    } else {
        for command in &todo {
            session::print_text(&format!("Run this to finish:\n  {command}\n"))?;
        }
    }
    if todo.is_empty() { Ok(()) } else { Err(Failure::silent(Exit::Failed)) }
}

fn status(home: &Home, json: bool) -> Result<(), Failure> {
    let there = Files::of(home).key().exists();
    let certificate = if there { Some(Certificate::open(home)?) } else { None };
    let system = certificate.as_ref().is_some_and(|certificate| SystemStore::debian().has(certificate));
    let browsers = match &certificate {
        Some(certificate) => Browsers::of_user().which_have(certificate),
        None => Vec::new(),
    };
    if json {
        let browsers: Vec<Value> =
            browsers.iter().map(|(store, trusted)| json!({"store": store, "trusted": trusted})).collect();
        return session::print_json(&json!({
            "authority": certificate.map(|certificate| json!({
                "name": certificate.name,
                "certificate": certificate.path,
                "sha256": certificate.fingerprint,
            })),
            "system": system,
            "browsers": browsers,
        }));
    }
    let Some(certificate) = certificate else {
        return session::print_text(
            "authority  not made yet: `rorqual https trust` makes it, and the first HTTPS connection\n",
        );
    };
    let word = |trusted: Option<bool>| match trusted {
        Some(true) => "trusted",
        Some(false) => "not trusted: rorqual https trust",
        None => "unknown: certutil is missing (package libnss3-tools)",
    };
    let mut text = format!(
        "authority  {}\nfile       {}\nsha256     {}\nsystem     {}\n",
        certificate.name,
        certificate.path.display(),
        certificate.fingerprint,
        word(Some(system))
    );
    for (store, trusted) in browsers {
        text += &format!("browser    {}: {}\n", store.display(), word(trusted));
    }
    session::print_text(&text)
}

/// A word of a command line as a shell reads it.
fn quoted(word: &str) -> String {
    let plain = |sign: char| sign.is_ascii_alphanumeric() || "/._-:=".contains(sign);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_in_a_command_is_one_word() {
        assert_eq!(quoted("/home/a/.rorqual/https/ca.pem"), "/home/a/.rorqual/https/ca.pem");
        assert_eq!(quoted("/home/a b/it's"), r"'/home/a b/it'\''s'");
    }
}
