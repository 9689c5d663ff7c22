//! Machines, through the daemon.

use std::{sync::Arc, time::Duration};

use bytes::Bytes as Raw;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::{
    Inner,
    contract::{
        Bytes, Empty, Failure, Machine, MachineLog, MachineSample, MachineShell, MachineStart, MachineState,
        MachineStop, MachineTarget, MachinesEvent, Milliseconds, PublishedPort, Step, TerminalEvent, TerminalInput,
        TerminalSize,
    },
    failure,
    stream::{Channel, Input, parse},
};
use rorqual_engine::api::{self, machine_status::State, shell_input, shell_output};

/// Interval of the checks for a daemon while none runs. Its directory may not exist, so nothing can be watched; a
/// failing connect costs microseconds, and happens only while a page is open.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

pub(super) async fn machines(inner: Arc<Inner>, _: Empty, channel: Channel) -> Result<(), Failure> {
    let mut told: Option<Failure> = None;
    loop {
        let failure = match follow(&inner, &channel, &mut told).await {
            Ok(never) => match never {},
            Err(failure) => failure,
        };
        if failure.code == "canceled" {
            return Err(failure);
        }
        if told.as_ref() != Some(&failure) {
            channel.event(&MachinesEvent::Unreachable { failure: failure.clone() }).await?;
            told = Some(failure);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Sends machines until the daemon exits.
async fn follow(
    inner: &Inner,
    channel: &Channel,
    told: &mut Option<Failure>,
) -> Result<std::convert::Infallible, Failure> {
    let mut client = inner.daemon().await?;
    let version = client.version(api::VersionRequest {}).await?.into_inner().daemon_version;
    let own = env!("CARGO_PKG_VERSION");
    if version != own {
        return Err(failure::advised!(
            "version-mismatch",
            format!("the running daemon has version {version}, but this program has version {own}"),
            "quit it with `rorqual quit`, then start it here",
        ));
    }
    let mut states: Streaming<api::StatusReply> =
        client.watch_status(api::StatusRequest::default()).await?.into_inner();
    while let Some(reply) = states.message().await? {
        let machines = reply.machine.map(machine).into_iter().collect();
        channel.event(&MachinesEvent::Machines { machines }).await?;
        *told = None;
    }
    Err(failure::advised!(
        "daemon-not-running",
        "the Rorqual daemon is not running",
        "start the machine, here or with `rorqual start`",
    ))
}

fn machine(status: api::MachineStatus) -> Machine {
    let state = match status.state() {
        State::Starting => MachineState::Starting,
        State::Running => MachineState::Running,
        State::Degraded => MachineState::Degraded,
        State::Stopping => MachineState::Stopping,
        State::Failed => MachineState::Failed,
        State::Suspending => MachineState::Suspending,
        State::Suspended => MachineState::Suspended,
        State::Stopped | State::Unspecified => MachineState::Stopped,
    };
    Machine {
        state,
        name: status.name,
        message: status.message,
        fix: Some(status.fix).filter(|fix| !fix.is_empty()),
        accelerator: status.accelerator,
        accelerator_reason: status.accelerator_reason,
        cpus: status.cpus,
        memory: Bytes(status.memory_bytes),
        disk: Bytes(status.disk_bytes),
        disk_allocated: Bytes(status.disk_allocated_bytes),
        ready_after: Some(status.ready_after_ms).filter(|time| *time > 0).map(Milliseconds),
        uptime: Milliseconds(status.uptime_seconds * 1000),
        docker_socket: status.docker_socket,
        image_version: status.image_version,
        kernel_release: status.kernel_release,
        ports: status.ports.into_iter().map(port).collect(),
    }
}

fn port(port: api::Port) -> PublishedPort {
    let number = |port: u32| u16::try_from(port).unwrap_or(0);
    PublishedPort {
        protocol: port.protocol,
        host_address: port.bound_address,
        host_port: number(port.host_port),
        container_address: port.container_address,
        container_port: number(port.container_port),
        error: port.error,
        fix: Some(port.fix).filter(|fix| !fix.is_empty()),
    }
}

/// Forwards steps until the stream ends.
async fn steps(mut progress: Streaming<api::Progress>, channel: &Channel) -> Result<(), Failure> {
    while let Some(step) = progress.message().await? {
        if !step.step.is_empty() {
            channel
                .event(&Step { step: step.step, message: step.message, took: step.took_ms.map(Milliseconds) })
                .await?;
        }
    }
    Ok(())
}

/// Starts a machine, and the daemon if it does not run. Reports each step.
pub(super) async fn start_by(inner: &Inner, machine: &str, cold: bool, channel: &Channel) -> Result<(), Failure> {
    let mut client = inner.daemon_started().await?;
    let request = api::StartRequest { machine: machine.to_owned(), accelerator: String::new(), cold };
    steps(client.start(request).await?.into_inner(), channel).await
}

pub(super) async fn start(inner: Arc<Inner>, asked: MachineStart, channel: Channel) -> Result<(), Failure> {
    start_by(&inner, &asked.machine, asked.cold, &channel).await
}

async fn stop_by(inner: &Inner, machine: String, force: bool, channel: &Channel) -> Result<(), Failure> {
    let mut client = inner.daemon().await?;
    let request = api::StopRequest { machine, force, timeout_seconds: 0 };
    steps(client.stop(request).await?.into_inner(), channel).await
}

pub(super) async fn stop(inner: Arc<Inner>, asked: MachineStop, channel: Channel) -> Result<(), Failure> {
    stop_by(&inner, asked.machine, asked.force, &channel).await
}

/// Stops and starts a machine. Reports the steps of both.
pub(super) async fn restart_by(inner: &Inner, machine: &str, channel: &Channel) -> Result<(), Failure> {
    stop_by(inner, machine.to_owned(), false, channel).await?;
    start_by(inner, machine, false, channel).await
}

pub(super) async fn restart(inner: Arc<Inner>, asked: MachineTarget, channel: Channel) -> Result<(), Failure> {
    restart_by(&inner, &asked.machine, &channel).await
}

pub(super) async fn suspend(inner: Arc<Inner>, asked: MachineTarget, channel: Channel) -> Result<(), Failure> {
    let mut client = inner.daemon().await?;
    steps(client.suspend(api::SuspendRequest { machine: asked.machine }).await?.into_inner(), &channel).await
}

pub(super) async fn log(inner: Arc<Inner>, asked: MachineLog, channel: Channel) -> Result<(), Failure> {
    let mut client = inner.daemon().await?;
    let request = api::LogsRequest { machine: asked.machine, source: asked.source, follow: true, tail: asked.tail };
    let mut chunks = client.logs(request).await?.into_inner();
    while let Some(chunk) = chunks.message().await? {
        channel.bytes(Raw::from(chunk.data)).await?;
    }
    Ok(())
}

fn size(size: TerminalSize) -> api::TerminalSize {
    api::TerminalSize { columns: size.columns.into(), rows: size.rows.into() }
}

/// Opens a shell through the daemon. Its inputs come from the sender.
pub(super) async fn open_shell(
    inner: &Inner,
    start: api::ShellStart,
) -> Result<(tokio::sync::mpsc::Sender<api::ShellInput>, Streaming<api::ShellOutput>), Failure> {
    let mut client = inner.daemon().await?;
    let (inputs, queue) = tokio::sync::mpsc::channel(16);
    let first = api::ShellInput { input: Some(shell_input::Input::Start(start)) };
    // The queue is empty, so this does not wait.
    inputs.send(first).await.map_err(|_| failure::canceled())?;
    let outputs = client.shell(ReceiverStream::new(queue)).await?.into_inner();
    Ok((inputs, outputs))
}

pub(super) async fn shell(inner: Arc<Inner>, asked: MachineShell, mut channel: Channel) -> Result<(), Failure> {
    let start = api::ShellStart {
        machine: asked.machine,
        command: Vec::new(),
        term: "xterm-256color".to_owned(),
        size: Some(size(asked.size)),
    };
    let (inputs, mut outputs) = open_shell(&inner, start).await?;
    channel.event(&TerminalEvent::Started { command: Vec::new() }).await?;
    let mut typed = channel.take_inputs();
    // Runs in its own task: output may wait for a slow page, and Ctrl-C must still get through.
    let typing = async {
        while let Some(input) = typed.recv().await {
            let input = match input {
                Input::Bytes(bytes) => shell_input::Input::Data(bytes.to_vec()),
                Input::Value(value) => {
                    let TerminalInput::Resize { size: new } = parse(value)?;
                    shell_input::Input::Resize(size(new))
                }
            };
            // If the shell exited, the loop below reports it.
            inputs.send(api::ShellInput { input: Some(input) }).await.ok();
        }
        Err::<std::convert::Infallible, Failure>(failure::canceled())
    };
    let saying = async {
        loop {
            match outputs.message().await?.and_then(|output| output.output) {
                Some(shell_output::Output::Stdout(data) | shell_output::Output::Stderr(data)) => {
                    channel.bytes(Raw::from(data)).await?;
                }
                Some(shell_output::Output::ExitStatus(status)) => {
                    return channel.event(&TerminalEvent::Exited { status }).await;
                }
                None => {
                    return Err(failure::advised!(
                        "shell-lost",
                        "the connection to the machine was lost",
                        "check that the machine is running, then open the shell again",
                    ));
                }
            }
        }
    };
    tokio::select! {
        ended = saying => ended,
        Err(failure) = typing => Err(failure),
    }
}

/// The guest reports its resource use each second while the stream is open.
const SAY: &str = "while :; do grep '^cpu ' /proc/stat; \
    grep -E '^(MemTotal|MemFree|Buffers|Cached|SReclaimable):' /proc/meminfo; \
    echo \"disk $(df -Pk /var/lib/docker | tail -n 1)\"; sleep 1; done";

pub(super) async fn samples(inner: Arc<Inner>, asked: MachineTarget, channel: Channel) -> Result<(), Failure> {
    let command = ["sh", "-c", SAY].map(str::to_owned).into();
    let start = api::ShellStart { machine: asked.machine.clone(), command, term: String::new(), size: None };
    let (_inputs, mut outputs) = open_shell(&inner, start).await?;
    let mut client = inner.daemon().await?;
    let mut text = String::new();
    let mut reading = Reading::default();
    while let Some(output) = outputs.message().await? {
        match output.output {
            Some(shell_output::Output::Stdout(data)) => text.push_str(&String::from_utf8_lossy(&data)),
            Some(shell_output::Output::Stderr(_)) | None => {}
            Some(shell_output::Output::ExitStatus(_)) => break,
        }
        while let Some(end) = text.find('\n') {
            let line: String = text.drain(..=end).collect();
            if !reading.line(line.trim()) {
                continue;
            }
            let status = client
                .status(api::StatusRequest { machine: asked.machine.clone() })
                .await?
                .into_inner()
                .machine
                .unwrap_or_default();
            let sample = reading.sample(resident(status.vmm_process), Bytes(status.disk_allocated_bytes));
            channel.event(&sample).await?;
        }
    }
    Err(failure::coded("machine-not-running", "the machine stopped"))
}

/// Memory (PSS) of a monitor and all its children, which divides shared pages among their users; resident memory if the
/// system does not provide PSS.
fn resident(process: u32) -> Bytes {
    fn of(process: u32, depth: u32) -> u64 {
        let rollup = std::fs::read_to_string(format!("/proc/{process}/smaps_rollup")).unwrap_or_default();
        let own = rollup
            .lines()
            .find_map(|line| line.strip_prefix("Pss:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok())
            .unwrap_or(0)
            * 1024;
        let children = std::fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap_or_default();
        let below = if depth == 0 {
            0
        } else {
            children.split_whitespace().filter_map(|child| child.parse().ok()).map(|child| of(child, depth - 1)).sum()
        };
        own + below
    }
    Bytes(if process == 0 { 0 } else { of(process, 4) })
}

/// Parses the guest's report, line by line.
#[derive(Debug, Default)]
struct Reading {
    /// CPU ticks of all processors, busy and total, of this report and the previous one.
    ticks: (u64, u64),
    before: (u64, u64),
    memory: std::collections::BTreeMap<String, u64>,
    disk: (u64, u64),
}

impl Reading {
    /// Parses a line. Returns whether it was the last of a report.
    fn line(&mut self, line: &str) -> bool {
        let numbers =
            |text: &str| text.split_whitespace().filter_map(|word| word.parse::<u64>().ok()).collect::<Vec<_>>();
        if let Some(rest) = line.strip_prefix("cpu ") {
            let all = numbers(rest);
            let idle = all.get(3).copied().unwrap_or(0) + all.get(4).copied().unwrap_or(0);
            let total: u64 = all.iter().take(8).sum();
            self.before = std::mem::replace(&mut self.ticks, (total - idle, total));
        } else if let Some(rest) = line.strip_prefix("disk ") {
            if let [size, used, ..] = numbers(rest)[..] {
                self.disk = (used * 1024, size * 1024);
            }
            return true;
        } else if let Some((name, rest)) = line.split_once(':') {
            self.memory.insert(name.to_owned(), numbers(rest).first().copied().unwrap_or(0) * 1024);
        }
        false
    }

    #[expect(clippy::cast_precision_loss)]
    fn sample(&self, resident: Bytes, allocated: Bytes) -> MachineSample {
        let of = |name: &str| self.memory.get(name).copied().unwrap_or(0);
        let cached = of("Cached") + of("Buffers") + of("SReclaimable");
        let passed = self.ticks.1.saturating_sub(self.before.1);
        // The first report has no previous one to compare with.
        let known = passed > 0 && self.before.1 > 0;
        let worked = self.ticks.0.saturating_sub(self.before.0);
        MachineSample {
            cpu_percent: if known { worked as f64 / passed as f64 * 100.0 } else { 0.0 },
            memory_used: Bytes(of("MemTotal").saturating_sub(of("MemFree") + cached)),
            memory_cached: Bytes(cached),
            memory_total: Bytes(of("MemTotal")),
            memory_resident: resident,
            disk_used: Bytes(self.disk.0),
            disk_allocated: allocated,
            disk_total: Bytes(self.disk.1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_guest_says_becomes_a_sample() {
        let mut reading = Reading::default();
        for line in [
            "cpu  10 0 10 80 0 0 0 0 0 0",
            "MemTotal: 1000 kB",
            "MemFree: 500 kB",
            "Cached: 100 kB",
            "Buffers: 50 kB",
            "SReclaimable: 50 kB",
        ] {
            assert!(!reading.line(line));
        }
        assert!(reading.line("disk rootfs 400 20 380 5% /var/lib/docker"));
        assert!(reading.sample(Bytes(1), Bytes(2)).cpu_percent.abs() < 1e-9);
        reading.line("cpu  60 0 10 130 0 0 0 0 0 0");
        let sample = reading.sample(Bytes(1), Bytes(2));
        assert!((sample.cpu_percent - 50.0).abs() < 1e-9);
        assert_eq!((sample.memory_used, sample.memory_cached), (Bytes(300 * 1024), Bytes(200 * 1024)));
        assert_eq!((sample.disk_used, sample.disk_total), (Bytes(20 * 1024), Bytes(400 * 1024)));
    }
}
