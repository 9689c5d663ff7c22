//! The machine monitor of Rorqual: one process per machine.

use std::fs::File;
use std::io;
use std::os::fd::{FromRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use rorqual_vmm::config::Config;
use rorqual_vmm::error::{ErrorCode, Failure};
use rorqual_vmm::machine::{self, Reason};
use rorqual_vmm::uml::supervisor;
use tracing::error;
use tracing_subscriber::EnvFilter;

#[derive(Parser)]
#[command(name = "rorqual-vmm", version, about = "Runs one virtual machine per process")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a machine until it ends
    Run {
        /// The machine, as a JSON document
        #[arg(long)]
        config: PathBuf,
        /// Descriptor to write one line on when the guest runs, or why it does not
        #[arg(long)]
        ready_fd: Option<RawFd>,
    },
    /// The process around a guest kernel; started by `run`
    #[command(hide = true)]
    Supervise {
        #[arg(long)]
        directory: PathBuf,
        #[arg(long)]
        channel: RawFd,
        program: PathBuf,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_env("RORQUAL_VMM_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(false).init();
    match arguments.command {
        Command::Run { config, ready_fd } => run(&config, ready_fd),
        Command::Supervise { directory, channel, program, arguments } => {
            // SAFETY: the descriptor was made for this process by the monitor that executed it, and nothing else owns it.
            let channel = unsafe { UnixStream::from_raw_fd(channel) };
            report(
                supervisor::supervise(channel, &directory, &program, &arguments).context("the supervisor of the guest kernel"),
            )
        }
    }
}

fn run(config: &std::path::Path, ready_fd: Option<RawFd>) -> ExitCode {
    // SAFETY: whoever passed the option has opened the descriptor for this process, and nothing else here uses it.
    let ready = ready_fd.map(|descriptor| unsafe { File::from_raw_fd(descriptor) });
    match machine::run(Config::load(config), ready) {
        Ok(Reason::PowerOff | Reason::Reset | Reason::Killed) => ExitCode::SUCCESS,
        Ok(Reason::Crashed) => ExitCode::from(1),
        Err(Failure { code, message }) => {
            error!(?code, "{message}");
            ExitCode::from(if code == ErrorCode::ConfigInvalid { 2 } else { 1 })
        }
    }
}

fn report(outcome: anyhow::Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{error:#}");
            ExitCode::from(1)
        }
    }
}
