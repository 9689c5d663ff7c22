//! `rorqual doctor`, `version` and `env`.

use rorqual_engine::{
    api::{Check, DoctorRequest, VersionRequest, check::Verdict},
    client,
};
use serde_json::{Value, json};

use crate::{
    arguments::EnvironmentSyntax,
    context,
    exit::Exit,
    failure::Failure,
    session::{self, Session},
};

pub(crate) async fn doctor(session: &Session) -> Result<(), Failure> {
    let checks = match session.daemon().await {
        Ok(mut client) => client.doctor(DoctorRequest {}).await?.into_inner().checks,
        // If the daemon does not start, that is the first finding.
        Err(failure) => vec![Check {
            id: "daemon".to_owned(),
            verdict: Verdict::Problem.into(),
            finding: failure.shown.as_ref().map(|failure| failure.message.clone()).unwrap_or_default(),
            fix: failure
                .shown
                .and_then(|failure| failure.fix)
                .unwrap_or_else(|| "read the reason with `rorqual logs daemon`".to_owned()),
        }],
    };
    let sound = !checks.iter().any(|check| check.verdict() == Verdict::Problem);
    if session.json {
        let list: Vec<Value> = checks.iter().map(check_json).collect();
        session::print_json(&json!({"sound": sound, "checks": list}))?;
    } else {
        session::print_text(&checks_table(&checks))?;
    }
    if sound { Ok(()) } else { Err(Failure::silent(Exit::Failed)) }
}

fn verdict_word(check: &Check) -> &'static str {
    match check.verdict() {
        Verdict::Ok => "ok",
        Verdict::Note => "note",
        Verdict::Problem => "problem",
        Verdict::Unspecified => "unknown",
    }
}

fn check_json(check: &Check) -> Value {
    json!({"id": check.id, "verdict": verdict_word(check), "finding": check.finding, "fix": check.fix})
}

fn checks_table(checks: &[Check]) -> String {
    let width = checks.iter().map(|check| check.id.len()).max().unwrap_or(0);
    let mut table = String::new();
    for check in checks {
        table += &format!("{:<8} {:<width$}  {}\n", verdict_word(check), check.id, check.finding);
        if !check.fix.is_empty() {
            table += &format!("{:<8} {:<width$}  Fix: {}\n", "", "", check.fix);
        }
    }
    let problems = checks.iter().filter(|check| check.verdict() == Verdict::Problem).count();
    table += &match problems {
        0 => "No problem found.\n".to_owned(),
        1 => "1 problem found.\n".to_owned(),
        _ => format!("{problems} problems found.\n"),
    };
    table
}

pub(crate) async fn version(session: &Session) -> Result<(), Failure> {
    let own = env!("CARGO_PKG_VERSION");
    // `version` never starts a daemon.
    let reply = match client::connect(&session.home).await {
        Ok(mut client) => Some(client.version(VersionRequest {}).await?.into_inner()),
        Err(_) => None,
    };
    if session.json {
        return session::print_json(&json!({
            "version": own,
            "daemon": reply.as_ref().map(|reply| json!({
                "version": reply.daemon_version,
                "process": reply.daemon_process,
            })),
            "image": reply.as_ref().map(|reply| &reply.image_version).filter(|version| !version.is_empty()),
        }));
    }
    let mut text = format!("rorqual  {own}\n");
    match reply {
        None => text += "daemon   not running\n",
        Some(reply) => {
            text += &format!("daemon   {} (process {})\n", reply.daemon_version, reply.daemon_process);
            let image = if reply.image_version.is_empty() { "none found" } else { &reply.image_version };
            text += &format!("image    {image}\n");
        }
    }
    session::print_text(&text)
}

pub(crate) async fn environment(session: &Session, unset: bool, syntax: EnvironmentSyntax) -> Result<(), Failure> {
    if unset {
        return match (session.json, syntax) {
            (true, _) => session::print_json(&json!({"DOCKER_HOST": null})),
            (false, EnvironmentSyntax::Posix) => session::print_text("unset DOCKER_HOST\n"),
            (false, EnvironmentSyntax::Fish) => session::print_text("set -e DOCKER_HOST\n"),
        };
    }
    let endpoint = context::endpoint(session).await?;
    if session.json {
        return session::print_json(&json!({"DOCKER_HOST": endpoint}));
    }
    session::print_text(&match syntax {
        EnvironmentSyntax::Posix => format!("export DOCKER_HOST={}\n", quoted(&endpoint, "'\\''")),
        EnvironmentSyntax::Fish => format!("set -gx DOCKER_HOST {}\n", quoted(&endpoint, "\\'")),
    })
}

/// Quotes text with single quotes, if it needs quotes. `quote` replaces a quote within it.
fn quoted(text: &str, quote: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-:@%+,".contains(letter);
    if text.chars().all(plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', quote)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_with_a_space_or_a_quote_survives_the_shell() {
        assert_eq!(quoted("unix:///a/b.sock", "'\\''"), "unix:///a/b.sock");
        assert_eq!(quoted("unix:///a b", "'\\''"), "'unix:///a b'");
        assert_eq!(quoted("it's", "'\\''"), "'it'\\''s'");
    }

    #[test]
    fn a_problem_shows_what_to_do() {
        let check = Check {
            id: "kvm".to_owned(),
            verdict: Verdict::Problem.into(),
            finding: "no".to_owned(),
            fix: "load kvm".to_owned(),
        };
        assert_eq!(checks_table(&[check]), "problem  kvm  no\n              Fix: load kvm\n1 problem found.\n");
    }
}
