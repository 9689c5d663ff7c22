//! `rorqual https trust`, `untrust` and `status`.

use rorqual_engine::{home::Home, routes::authority::Files};
use serde_json::{Value, json};

use super::{browsers::Browsers, certificate::Certificate, outcome::Outcome, system::SystemStore};
use crate::{
    arguments::HttpsCommand,
    exit::Exit,
    failure::Failure,
    session::{self, Session},
};

/// Runs the command. It blocks on files and programs, which is fine as this process does nothing else.
pub(crate) fn run(session: &Session, command: HttpsCommand) -> Result<(), Failure> {
    match command {
        HttpsCommand::Status => status(&session.home, session.json),
        HttpsCommand::Trust => change(session, true),
        HttpsCommand::Untrust => change(session, false),
    }
}

/// Adds the authority to every store, or removes it from them.
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
            "The authority is now trusted. Restart any open browsers.\n"
        } else {
            "The authority is no longer trusted.\n"
        })?;
    } else {
        for command in &todo {
            session::print_text(&format!("To finish, run:\n  {command}\n"))?;
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
            "authority  not created yet; `rorqual https trust` or the first HTTPS connection creates it\n",
        );
    };
    let word = |trusted: Option<bool>| match trusted {
        Some(true) => "trusted",
        Some(false) => "not trusted (to trust it, run: rorqual https trust)",
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
