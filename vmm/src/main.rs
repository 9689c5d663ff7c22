//! The machine monitor of Rorqual: one process per machine.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::{FromRawFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rorqual_vmm::attachment::relay::relay_foreign;
use rorqual_vmm::attachment::vhost_user::VhostUserAttachment;
use rorqual_vmm::config;
use rorqual_vmm::confinement::descriptors;
use rorqual_vmm::confinement::paths::Paths;
use rorqual_vmm::devices::vsock::VsockDevice;
use rorqual_vmm::guest::accelerators;
use rorqual_vmm::guest::uml::supervisor;
use rorqual_vmm::monitor;
use rorqual_vmm_protocol::{EndReason, Failure, FailureCode};
use tracing::{error, info, warn};
use tracing_subscriber::EnvFilter;
use vhost::vhost_user::Listener;

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
        /// Descriptor that receives one line when the guest runs, or why it does not
        #[arg(long)]
        ready_fd: Option<RawFd>,
    },
    /// Try the accelerators on this host, and print the findings as JSON
    Probe {
        /// A User Mode Linux kernel to try
        #[arg(long)]
        uml_kernel: Option<PathBuf>,
    },
    /// Send one request to a running monitor and print its answer
    Ask {
        /// The monitor's control socket
        socket: PathBuf,
        /// The request, a JSON object such as {"command":"stats"}
        request: String,
    },
    /// Serve one device over vhost-user, for another monitor
    Device {
        #[command(subcommand)]
        device: Device,
    },
    /// Be the process around a guest kernel; `run` starts it
    #[command(hide = true)]
    Supervise {
        #[arg(long)]
        directory: PathBuf,
        #[arg(long)]
        channel: RawFd,
        /// Leave the guest kernel no files but those of --own, --read and its directory
        #[arg(long)]
        confine: bool,
        /// A directory in which it creates files
        #[arg(long)]
        own: Vec<PathBuf>,
        /// A file that it reads
        #[arg(long)]
        read: Vec<PathBuf>,
        program: PathBuf,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

#[derive(Subcommand)]
enum Device {
    /// The vsock device
    Vsock {
        /// Socket the other monitor connects to
        #[arg(long)]
        listen: PathBuf,
        /// Context ID of the guest, 3 or more
        #[arg(long)]
        guest_cid: u32,
        /// Socket on the host: connect, then write `CONNECT <port>`
        #[arg(long)]
        uds: PathBuf,
    },
    /// Translate between a kernel of User Mode Linux and a device of another program, which disagree on some messages
    Relay {
        /// Socket the kernel connects to
        #[arg(long)]
        listen: PathBuf,
        /// Socket of the device
        #[arg(long)]
        device: PathBuf,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_env("RORQUAL_VMM_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(false).init();
    match arguments.command {
        Command::Run { config, ready_fd } => run(&config, ready_fd),
        Command::Probe { uml_kernel } => report(probe(uml_kernel.as_deref()).context("cannot print the findings")),
        Command::Ask { socket, request } => report(ask(&socket, &request)),
        Command::Device { device: Device::Vsock { listen, guest_cid, uds } } => {
            report(serve_vsock(&listen, guest_cid, &uds))
        }
        Command::Device { device: Device::Relay { listen, device } } => report(relay_one(&listen, &device)),
        Command::Supervise { directory, channel, confine, own, read, program, arguments } => {
            // SAFETY: the descriptor was made for this process by the monitor that executed it, and nothing else owns
            // it.
            let channel = unsafe { UnixStream::from_raw_fd(channel) };
            let files = confine.then(|| {
                let files = own.into_iter().fold(Paths::none(), Paths::own);
                read.into_iter().fold(files, Paths::readable)
            });
            report(
                supervisor::supervise(channel, &directory, files.as_ref(), &program, &arguments)
                    .context("the supervisor of the guest kernel"),
            )
        }
    }
}

fn probe(uml_kernel: Option<&Path>) -> io::Result<()> {
    let findings = serde_json::to_string(&accelerators::probe(uml_kernel))?;
    writeln!(io::stdout(), "{findings}")
}

/// Each stream takes a descriptor, and the usual soft limit is 1024. That limit protects `select`, which nothing here
/// uses.
fn raise_descriptor_limit() {
    let raised =
        getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        warn!("cannot raise the limit of open files: {error}");
    }
}

fn run(config: &Path, ready_fd: Option<RawFd>) -> ExitCode {
    descriptors::close_inherited(ready_fd);
    raise_descriptor_limit();
    // SAFETY: the process that passed the option opened the descriptor for this one, and nothing else here uses it.
    let ready = ready_fd.map(|descriptor| unsafe { File::from_raw_fd(descriptor) });
    match monitor::run(config::load(config), ready) {
        Ok(EndReason::PowerOff | EndReason::Reset | EndReason::Killed) => ExitCode::SUCCESS,
        Ok(EndReason::Crashed) => ExitCode::from(1),
        Err(Failure { code, message, fix }) => {
            error!(?code, "{message}");
            if let Some(fix) = fix {
                error!("to fix this: {fix}");
            }
            ExitCode::from(if code == FailureCode::ConfigInvalid { 2 } else { 1 })
        }
    }
}

/// Sends one request and prints its answer. Further lines of a `watch` or `save` are not read.
fn ask(socket: &Path, request: &str) -> anyhow::Result<()> {
    let mut stream = UnixStream::connect(socket)
        .with_context(|| format!("no monitor answers at {}; start the machine first", socket.display()))?;
    stream.write_all(format!("{}\n", request.trim()).as_bytes()).context("cannot send the request")?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).context("the monitor did not answer")?;
    anyhow::ensure!(!answer.is_empty(), "the monitor ended without an answer");
    write!(io::stdout(), "{answer}").context("cannot print the answer")?;
    anyhow::ensure!(!answer.starts_with("{\"error\""), "the monitor refused the request");
    Ok(())
}

/// Serves one frontend after another, each with a device of its own.
fn serve_vsock(listen: &Path, guest_cid: u32, uds: &Path) -> anyhow::Result<()> {
    let mut listener = Listener::new(listen, true).with_context(|| format!("cannot listen on {}", listen.display()))?;
    loop {
        let device = VsockDevice::new(guest_cid.into(), uds)?;
        let mut attachment = VhostUserAttachment::new("vsock", Box::new(device))?;
        attachment.accept(&mut listener)?;
        info!("a monitor has connected");
        attachment.wait()?;
        info!("the monitor has disconnected");
    }
}

/// Relays for the first kernel that connects, until it or the device hangs up.
fn relay_one(listen: &Path, device: &Path) -> anyhow::Result<()> {
    let listener = UnixListener::bind(listen).with_context(|| format!("cannot listen on {}", listen.display()))?;
    let (kernel, _) = listener.accept()?;
    let device = UnixStream::connect(device).with_context(|| format!("no device answers at {}", device.display()))?;
    Ok(relay_foreign(&kernel, &device)?)
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
