//! `rorqual context`, and the context the first start creates.

use std::env;

use rorqual_engine::{
    api::{MachineStatus, ProxiesRequest, StatusRequest},
    client::Client,
};
use serde_json::{Map, Value, json};

use crate::{
    arguments::ContextCommand,
    docker_context::{self, DockerConfig, Ensured, Previous, Stored},
    error::CommandError,
    failure::Failure,
    session::{self, Session},
};

/// Variables that take precedence over the current context.
const OVERRIDES: [&str; 2] = ["DOCKER_HOST", "DOCKER_CONTEXT"];

pub(crate) async fn run(session: &Session, command: ContextCommand) -> Result<(), Failure> {
    let config = DockerConfig::locate()?;
    let name = docker_context::context_name(session.machine.as_str());
    match command {
        ContextCommand::Show => show(session, &config, &name),
        ContextCommand::Use => {
            let endpoint = endpoint(session).await?;
            // Without a daemon, the next start writes them.
            if let Some(mut client) = session.running_daemon().await? {
                config.set_proxies(&endpoint, proxies(&mut client).await?)?;
            }
            use_context(session, &config, &name, &endpoint)
        }
        ContextCommand::Remove => {
            if let Stored::Ours(endpoint) = config.stored(&name)? {
                config.set_proxies(&endpoint, None)?;
            }
            remove(session, &config, &name)
        }
    }
}

/// The endpoint of the session's machine.
pub(crate) async fn endpoint(session: &Session) -> Result<String, Failure> {
    // The path of the default machine's socket is fixed, so no daemon is needed.
    if session.machine.as_str() == rorqual_engine::home::DEFAULT_MACHINE {
        return Ok(docker_context::endpoint(&session.home.docker_socket()));
    }
    let request = StatusRequest { machine: session.machine() };
    let machine = session.daemon().await?.status(request).await?.into_inner().machine.unwrap_or_default();
    if machine.docker_socket.is_empty() {
        return Err(CommandError::NoSocket(session.machine()).into());
    }
    Ok(format!("unix://{}", machine.docker_socket))
}

/// The proxies for builds and containers, as config.json spells them; `None` unless the settings request it.
pub(crate) async fn proxies(client: &mut Client) -> Result<Option<Value>, Failure> {
    let reply = client.proxies(ProxiesRequest {}).await?.into_inner();
    let all = [("httpProxy", reply.http), ("httpsProxy", reply.https), ("noProxy", reply.no_proxy)];
    let proxies: Map<String, Value> = all
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect();
    Ok(if proxies.is_empty() { None } else { Some(Value::Object(proxies)) })
}

/// Creates or repairs the context of a machine that just started, with its proxies. The machine works without a
/// context, so a failure is only a warning.
pub(crate) fn ensure_after_start(session: &Session, machine: &MachineStatus, proxies: Result<Option<Value>, Failure>) {
    if machine.docker_socket.is_empty() {
        return;
    }
    let name = docker_context::context_name(session.machine.as_str());
    let endpoint = format!("unix://{}", machine.docker_socket);
    let ensured = proxies.and_then(|proxies| {
        let config = DockerConfig::locate()?;
        config.set_proxies(&endpoint, proxies)?;
        Ok(config.ensure(&name, &endpoint)?)
    });
    match ensured {
        Ok(Ensured::Created) if !session.quiet && !session.json => {
            eprintln!("Created the docker context {name}. To make it the current one, run: rorqual context use");
        }
        Ok(_) => {}
        Err(failure) => failure.report("warning", &format!("warning: no docker context {name}: "), session.json),
    }
}

fn overridden_by() -> Option<&'static str> {
    OVERRIDES.into_iter().find(|name| env::var_os(name).is_some_and(|value| !value.is_empty()))
}

fn show(session: &Session, config: &DockerConfig, name: &str) -> Result<(), Failure> {
    let stored = config.stored(name)?;
    let current = config.current()?;
    let previous = Previous::in_directory(session.home.root()).recall();
    let in_use = current.as_deref() == Some(name);
    let overridden = overridden_by();
    if session.json {
        let state = match &stored {
            Stored::Absent => "absent",
            Stored::Ours(_) => "ours",
            Stored::Foreign => "foreign",
        };
        return session::print_json(&json!({
            "name": name,
            "state": state,
            "endpoint": match &stored { Stored::Ours(host) => Some(host), _ => None },
            "current": current.as_deref().unwrap_or("default"),
            "in_use": in_use,
            "previous": previous,
            "overridden_by": overridden,
        }));
    }
    let what = match &stored {
        Stored::Absent => "not created yet; `rorqual start` creates it".to_owned(),
        Stored::Ours(host) => host.clone(),
        Stored::Foreign => format!("not made by Rorqual ({})", config.meta_file(name).display()),
    };
    let mut text = format!("context   {name}: {what}\n");
    let hint = if in_use { "" } else { " (change it with: rorqual context use)" };
    text += &format!("current   {}{hint}\n", current.as_deref().unwrap_or("default"));
    if let (true, Some(previous)) = (in_use, previous) {
        text += &format!("before    {previous}\n");
    }
    if let Some(variable) = overridden {
        text += &format!("note      {variable} is set in this shell and takes precedence\n");
    }
    session::print_text(&text)
}

fn use_context(session: &Session, config: &DockerConfig, name: &str, endpoint: &str) -> Result<(), Failure> {
    config.ensure(name, endpoint)?;
    let before = config.set_current(Some(name))?;
    if before.as_deref() != Some(name) {
        Previous::in_directory(session.home.root()).remember(before.clone())?;
    }
    if session.json {
        return session::print_json(&json!({
            "current": name,
            "endpoint": endpoint,
            "before": before.as_deref().unwrap_or("default"),
            "overridden_by": overridden_by(),
        }));
    }
    if let Some(variable) = overridden_by() {
        eprintln!("rorqual: note: {variable} is set in this shell and takes precedence over the current context");
    }
    if session.quiet {
        return Ok(());
    }
    session::print_text(&format!(
        "docker now uses the context {name} (before: {}).\n",
        before.as_deref().unwrap_or("default")
    ))
}

fn remove(session: &Session, config: &DockerConfig, name: &str) -> Result<(), Failure> {
    let previous = Previous::in_directory(session.home.root());
    if config.stored(name)? == Stored::Foreign {
        // Fails, and names the context's file.
        config.remove(name)?;
    }
    let mut current = config.current()?;
    if current.as_deref() == Some(name) {
        // Restores the previous context, unless it was removed since.
        let back =
            previous.recall().filter(|before| config.stored(before).is_ok_and(|stored| stored != Stored::Absent));
        config.set_current(back.as_deref())?;
        current = back;
    }
    let removed = config.remove(name)?;
    previous.forget()?;
    let current = current.as_deref().unwrap_or("default");
    if session.json {
        return session::print_json(&json!({"removed": removed, "name": name, "current": current}));
    }
    if session.quiet {
        return Ok(());
    }
    let what = if removed { "was removed" } else { "does not exist" };
    session::print_text(&format!("The docker context {name} {what}; docker now uses {current}.\n"))
}
