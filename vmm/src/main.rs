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
use rorqual_vmm::config::Config;
use rorqual_vmm::confinement::descriptors;
use rorqual_vmm::confinement::paths::Paths;
use rorqual_vmm::devices::vsock::VsockDevice;
use rorqual_vmm::error::{ErrorCode, Failure};
use rorqual_vmm::machine::{self, Reason};
use rorqual_vmm::uml::supervisor;
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
        /// Descriptor to write one line on when the guest runs, or why it does not
        #[arg(long)]
        ready_fd: Option<RawFd>,
    },
    /// Try what runs machines on this host, and print the findings as JSON
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
    /// The process around a guest kernel; started by `run`
    #[command(hide = true)]
    Supervise {
        #[arg(long)]
        directory: PathBuf,
        #[arg(long)]
        channel: RawFd,
        /// Leave the guest kernel no files but those of --own, --read and its directory
        #[arg(long)]
        confine: bool,
        /// A directory it makes files in
        #[arg(long)]
        own: Vec<PathBuf>,
        /// A file it reads
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
        /// Host side: connect, write `CONNECT <port>`
        #[arg(long)]
        uds: PathBuf,
    },
    /// Stand between a kernel of User Mode Linux and another's device, which take each other's messages amiss otherwise
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
        Command::Probe { uml_kernel } => {
            let findings = serde_json::json!({
                "kvm": rorqual_vmm::kvm::probe::probe(),
                "uml": rorqual_vmm::uml::probe::probe(uml_kernel.as_deref()),
            });
            report(writeln!(io::stdout(), "{findings}").context("cannot print the findings"))
        }
        Command::Ask { socket, request } => report(ask(&socket, &request)),
        Command::Device { device: Device::Vsock { listen, guest_cid, uds } } => {
            report(serve_vsock(&listen, guest_cid, &uds))
        }
        Command::Device { device: Device::Relay { listen, device } } => report(relay_one(&listen, &device)),
        Command::Supervise { directory, channel, confine, own, read, program, arguments } => {
            // SAFETY: the descriptor was made for this process by the monitor that executed it, and nothing else owns it.
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

/// A stream takes a descriptor, and the usual soft limit is 1024; nothing here uses `select`, which that limit is for.
fn raise_descriptor_limit() {
    let raised =
        getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        warn!("the limit of open files stays as it is: {error}");
    }
}

fn run(config: &Path, ready_fd: Option<RawFd>) -> ExitCode {
    descriptors::close_inherited(ready_fd);
    raise_descriptor_limit();
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

/// One request and its answer; a `watch` or `save` says more, which is left unread.
fn ask(socket: &Path, request: &str) -> anyhow::Result<()> {
    let mut stream = UnixStream::connect(socket)
        .with_context(|| format!("no monitor answers at {}; is the machine running?", socket.display()))?;
    stream.write_all(format!("{}\n", request.trim()).as_bytes()).context("cannot send the request")?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).context("the monitor does not answer")?;
    anyhow::ensure!(!answer.is_empty(), "the monitor ended without an answer");
    write!(io::stdout(), "{answer}").context("cannot print the answer")?;
    anyhow::ensure!(!answer.starts_with("{\"error\""), "the monitor refused the request");
    Ok(())
}

/// Serves one frontend after the other, each with a device of its own.
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
