//! PID 1 of the guest: boots it, runs the Docker Engine, and serves the host.
//!
//! - [`boot`]: from the kernel's first process to a root with everything mounted
//! - [`data_disk`]: formats, repairs, mounts, grows and trims the disk with the user's data
//! - [`engine`]: keeps containerd and dockerd running, and knows their state
//! - [`docker_api`]: the calls the agent makes to dockerd
//! - [`iptables`]: answers dockerd's iptables commands without a process for each
//! - [`containers`]: ends containers without dockerd
//! - [`ports`]: published ports, between dockerd's port proxies and the host
//! - [`relay`]: the Docker socket and forwarded streams over vsock
//! - [`service`]: the gRPC service of `agent.proto`
//! - [`shutdown`]: the orderly end
//! - [`processes`], [`programs`]: start and collect processes
//! - [`log`], [`log_ring`]: the agent's own log, and those of the services
//!
//! One asynchronous runtime does all of it after the boot. Work that blocks (the data disk, kernel modules) has threads
//! of its own. A panic anywhere powers the machine off, because the kernel cannot continue without PID 1.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::reboot::set_cad_enabled;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, warn};

mod backoff;
mod boot;
mod clock;
mod containers;
mod data_disk;
mod docker_api;
mod engine;
mod iptables;
mod log;
mod log_ring;
mod netlink;
mod ports;
mod processes;
mod programs;
mod readiness;
mod relay;
mod service;
mod shutdown;

use boot::{BootSteps, Booted};
use engine::Engine;
use ports::Ports;
use processes::Processes;
use service::AgentService;
use shutdown::Shutdown;

fn main() {
    if std::process::id() != 1 {
        println!(
            "rorqual-agent {} is the first process of Rorqual's guest and does nothing elsewhere",
            env!("CARGO_PKG_VERSION")
        );
        return;
    }
    log::power_off_on_panic();
    log::start();
    let steps = BootSteps::default();
    let result = boot::boot(&steps).context("cannot boot").and_then(|booted| {
        let runtime = runtime().context("cannot start the runtime")?;
        runtime.block_on(run(booted, steps))
    });
    match result {
        Ok(()) => log::power_off_because("the agent ended although nothing asked it to"),
        Err(error) => log::power_off_because(&format!("{error:#}")),
    }
}

/// Uses one thread on a machine with one processor, where more would only take turns.
fn runtime() -> std::io::Result<Runtime> {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut builder = if processors == 1 { Builder::new_current_thread() } else { Builder::new_multi_thread() };
    // Long enough for the boot's next blocking step to reuse an idle thread.
    builder.enable_all().worker_threads(processors.min(4)).thread_keep_alive(Duration::from_secs(1)).build()
}

/// Runs the machine. Its shutdown does not return here.
async fn run(booted: Booted, steps: BootSteps) -> Result<()> {
    let processes = Processes::new();
    let collecting = tokio::spawn(processes.clone().collect());
    let engine = Engine::new(processes.clone(), steps.clone());
    let shutdown = Shutdown::new(Arc::clone(&engine), processes.clone());
    let ports = Ports::default();
    tokio::spawn(power_button(shutdown.clone()));

    let network = booted.network.clone();
    tokio::spawn(ports::publish_host_network(ports.clone(), engine.state(), engine.clients_dismissed(), network));
    let start = start_engine(booted, ports.clone(), Arc::clone(&engine), processes.clone(), steps.clone());
    tokio::spawn(start);
    keep("port proxies", ports::serve_proxies(ports.clone(), Path::new(ports::SOCKET)));
    keep("the Docker socket", relay::serve_docker(engine.clients_dismissed()));
    keep("forwarded streams", relay::serve_forward());
    match relay::vsock_listener(rorqual_protocol::AGENT_PORT) {
        Ok(listener) => {
            let service = AgentService { engine: Arc::clone(&engine), ports, processes, shutdown, steps };
            keep("gRPC", service.serve(listener));
            tokio::spawn(service::notify_host());
            tokio::spawn(async move {
                engine.first_ready().await;
                service::notify_host().await;
            });
        }
        // The engine still runs, and the power button still shuts the machine down.
        Err(error) => error!("the host cannot reach this machine: cannot listen on vsock: {error}"),
    }
    collecting.await.context("processes are no longer collected")?.context("cannot collect processes")
}

/// Runs something that serves forever, so that its end is always a failure to start.
fn keep<Failure: std::fmt::Display>(
    what: &'static str,
    serve: impl Future<Output = Result<(), Failure>> + Send + 'static,
) {
    tokio::spawn(async move {
        if let Err(failure) = serve.await {
            error!("cannot serve {what}: {failure}");
        }
    });
}

/// Mounts the data disk and starts the engine on it.
async fn start_engine(booted: Booted, ports: Ports, engine: Arc<Engine>, processes: Processes, steps: BootSteps) {
    let Some(disk) = booted.data_disk else {
        let machine = booted.machine;
        let why = format!("machine {machine} has no data disk: no virtio disk with the serial `data` is attached");
        engine.cannot_start(why, None);
        return;
    };
    let mounted = tokio::task::spawn_blocking(move || data_disk::mount_disk(&disk, &processes)).await;
    match mounted {
        Ok(Ok(())) => {
            steps.ended("data");
            engine::start(&engine, &booted.network, ports).await;
        }
        Ok(Err(error)) => engine.cannot_start(format!("{error:#}"), data_disk::advice(&error)),
        Err(error) => engine.cannot_start(format!("the data disk could not be mounted: {error}"), None),
    }
}

/// Waits for the machine's power button, which the kernel reports as SIGINT (Ctrl-Alt-Del) or, under some hypervisors,
/// as SIGPWR, and shuts the machine down.
async fn power_button(shutdown: Shutdown) {
    if let Err(errno) = set_cad_enabled(false) {
        warn!("the power button will reset the machine: {errno}");
    }
    let signals =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()), signal(SignalKind::from_raw(libc::SIGPWR)));
    let (Ok(mut interrupt), Ok(mut terminate), Ok(mut power)) = signals else {
        warn!("the power button has no effect: its signals cannot be received");
        return;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = power.recv() => {}
    }
    shutdown.begin(None);
}
