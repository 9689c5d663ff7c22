//! `rorqual`: the command line. It handles arguments, terminals and tables, and sends everything else to the daemon
//! over `engine.sock`. It starts the daemon if none runs. `rorqual daemon` is the daemon itself.
//!
//! [`arguments`] defines the command line; each command has a module; [`failure`] formats failures and maps them to
//! exit statuses.

// Tables are a few lines long; `write!` into a String would add an error to each that cannot happen.
#![allow(clippy::format_push_string, clippy::format_collect)]

mod arguments;
mod context;
mod docker_context;
mod error;
mod exit;
mod failure;
mod https;
mod information;
mod interrupt;
mod logs;
mod machine;
mod progress;
mod session;
mod shell;
mod terminal;
mod units;
mod view;
mod web;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, error::ErrorKind};
use rorqual_engine::{api::QuitRequest, daemon};
use tokio::runtime::{Builder, Runtime};

use arguments::{Arguments, Command};
use error::CommandError;
use exit::Exit;
use failure::Failure;
use session::Session;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return usage(&error),
    };
    let json = arguments.global.json;
    let result = match &arguments.command {
        Command::Completions { shell } => completions(*shell),
        Command::Man => manual(),
        _ => run(arguments),
    };
    match result {
        Ok(status) => ExitCode::from(status),
        Err(failure) => {
            failure.report("error", "", json);
            ExitCode::from(failure.exit.status())
        }
    }
}

/// Prints an error of the command line, as JSON if requested. Help and version are not errors.
fn usage(error: &clap::Error) -> ExitCode {
    let help = matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    );
    let json = std::env::args().take_while(|argument| argument != "--").any(|argument| argument == "--json");
    if json && !help {
        let message = error.render().to_string();
        let message = message.lines().next().unwrap_or_default().trim_start_matches("error: ");
        Failure::from(CommandError::Usage(message.to_owned())).report("error", "", true);
        return ExitCode::from(Exit::Usage.status());
    }
    // The output is closed, so an error could not be printed either.
    let _ = error.print();
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(Exit::Usage.status()))
}

fn run(arguments: Arguments) -> Result<u8, Failure> {
    let session = Session::open(&arguments.global)?;
    let runtime = match arguments.command {
        // Copying many clients' streams in parallel justifies a second thread; a command waits for one response.
        Command::Daemon | Command::Web(_) => Builder::new_multi_thread().worker_threads(2).enable_all().build(),
        _ => Builder::new_current_thread().enable_all().build(),
    };
    let runtime: Runtime = runtime.map_err(CommandError::EventLoop)?;
    let result = runtime.block_on(dispatch(&session, arguments.command));
    // A thread may still block on standard input; the process exits without it.
    runtime.shutdown_background();
    result
}

async fn dispatch(session: &Session, command: Command) -> Result<u8, Failure> {
    match command {
        Command::Start(options) => machine::start(session, &options).await?,
        Command::Suspend => machine::suspend(session).await?,
        Command::Stop(options) => machine::stop(session, &options).await?,
        Command::Restart(options) => machine::restart(session, &options).await?,
        Command::Status { watch } => machine::status(session, watch).await?,
        Command::Logs { source, follow, tail } => logs::logs(session, source, follow, tail).await?,
        Command::Shell { command } => return shell::shell(session, command).await,
        Command::Web(options) => web::web(session, &options).await?,
        Command::Doctor => information::doctor(session).await?,
        Command::Version => information::version(session).await?,
        Command::Context(command) => context::run(session, command).await?,
        Command::Https(command) => https::run(session, command)?,
        Command::Env { unset, shell } => information::environment(session, unset, shell).await?,
        Command::Daemon => daemon::run(session.home.clone()).await.map_err(|error| Failure::coded(&error))?,
        Command::Quit { stop_machines } => quit(session, stop_machines).await?,
        Command::Completions { shell } => return completions(shell),
        Command::Man => return manual(),
    }
    Ok(0)
}

/// Ends the daemon if one runs.
async fn quit(session: &Session, stop_machines: bool) -> Result<(), Failure> {
    let running = match session.running_daemon().await? {
        // Machines outlive their daemon; stopping them requires one.
        None if stop_machines => Some(session.daemon().await?),
        running => running,
    };
    let was_running = running.is_some();
    if let Some(mut client) = running {
        client.quit(QuitRequest { stop_machines }).await?;
        drop(client);
        session.daemon_ended().await;
    }
    if session.json {
        session::print_json(&serde_json::json!({"was_running": was_running}))
    } else if session.quiet {
        Ok(())
    } else if was_running {
        session::print_text("The daemon has exited.\n")
    } else {
        session::print_text("No daemon was running.\n")
    }
}

fn completions(shell: clap_complete::Shell) -> Result<u8, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "rorqual", &mut script);
    session::print_bytes(&script).map(|()| 0)
}

fn manual() -> Result<u8, Failure> {
    let mut page = Vec::new();
    clap_mangen::Man::new(Arguments::command()).render(&mut page).map_err(CommandError::Manual)?;
    session::print_bytes(&page).map(|()| 0)
}
