//! The life of a machine with a fake monitor and a fake agent, whose process, sockets and calls are real.
//!
//! The monitor is this test program, started again, so that it can be killed, outlive its daemon and be found.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{Stream, StreamExt, stream::BoxStream};
use rorqual_protocol::agent::{self as guest_api, agent_server, engine_state};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::{broadcast, mpsc},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use rorqual_vmm_protocol as vmm;

use super::{handle::Machine, *};
use crate::{
    api::{self, machine_status::State},
    home::{Home, MachineName},
    ports::Holders,
};

/// The file that controls the fake monitor's behaviour.
const SCENARIO: &str = "scenario";

struct Bench {
    _parent: tempfile::TempDir,
    home: Home,
    program: PathBuf,
}

fn bench(scenario: &str) -> Bench {
    let parent = tempfile::tempdir().unwrap();
    let home = Home::at(parent.path().join("h")).unwrap();
    crate::image::write_small_image(&home);
    home.create_machine(&MachineName::default()).unwrap();
    let program = parent.path().join("rorqual-vmm");
    let kvm = scenario.starts_with("kvm");
    let found = format!(r#"{{"kvm":{{"usable":{kvm},"reason":"tried"}},"uml":{{"usable":true,"reason":"it ran"}}}}"#);
    let test = env::current_exe().unwrap();
    let script = format!(
        "#!/bin/sh\nif [ $1 = probe ]; then echo '{found}'; exit; fi\nFAKE_CONFIG=$3 FAKE_READY=$5 exec {} --exact \
         machine::tests::pretend_to_be_a_monitor --ignored --nocapture\n",
        test.display()
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
    let bench = Bench { _parent: parent, home, program };
    bench.behave(scenario);
    bench
}

impl Bench {
    fn behave(&self, scenario: &str) {
        fs::write(self.home.machine(&MachineName::default()).directory().join(SCENARIO), scenario).unwrap();
    }

    /// What the monitor was started with last.
    fn config(&self) -> vmm::Config {
        serde_json::from_slice(&fs::read(self.home.machine(&MachineName::default()).vmm_config()).unwrap()).unwrap()
    }

    async fn machine(&self) -> Machine {
        let program = Some(self.program.clone());
        open(self.home.clone(), MachineName::default(), Holders::default(), program).await
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // The fake monitor watches for this.
        self.behave("leave");
        let control = self.home.machine(&MachineName::default()).control_socket();
        if let Ok(mut stream) = std::os::unix::net::UnixStream::connect(control) {
            let _ = std::io::Write::write_all(&mut stream, b"{\"command\":\"kill\"}\n");
        }
    }
}

async fn all(steps: impl Stream<Item = Result<api::Progress, Status>>) -> Result<Vec<String>, Status> {
    let entries: Vec<_> = steps.collect().await;
    let entries: Vec<_> = entries.into_iter().collect::<Result<_, _>>()?;
    Ok(entries.into_iter().filter(|entry| entry.took_ms.is_some()).map(|entry| entry.step).collect())
}

async fn until(machine: &Machine, state: State) -> api::MachineStatus {
    let mut changes = Box::pin(machine.watch());
    loop {
        let status = changes.next().await.unwrap();
        if status.state() == state {
            return status;
        }
    }
}

#[tokio::test]
async fn a_machine_starts_step_by_step_and_stops_in_order() {
    let bench = bench("ok");
    let machine = bench.machine().await;
    assert_eq!(machine.status().state(), State::Stopped);
    let steps = all(machine.start(StartChoice::default()).await.unwrap()).await.unwrap();
    assert_eq!(steps, ["image", "disk", "machine", "kernel", "engine"]);
    let status = machine.status();
    assert_eq!(status.state(), State::Running);
    assert_eq!((status.accelerator.as_str(), status.accelerator_reason.as_str()), ("uml", "no kvm: tried"));
    assert_eq!((status.cpus, status.kernel_release.as_str()), (1, "6.12-pretended"));
    assert!(status.vmm_process > 1 && status.disk_bytes == 64 << 30);
    assert!(all(machine.start(StartChoice::default()).await.unwrap()).await.unwrap().is_empty(), "started already");
    let steps = all(machine.stop(false, 0).await.unwrap()).await.unwrap();
    assert_eq!(steps, ["containers", "dockerd", "containerd", "trim", "unmount", "power-off"]);
    assert_eq!(machine.status().state(), State::Stopped);
    assert!(all(machine.stop(false, 0).await.unwrap()).await.unwrap().is_empty(), "stopped already");
}

#[tokio::test]
async fn two_callers_see_the_same_start() {
    let bench = bench("ok");
    let machine = bench.machine().await;
    let (first, second) = tokio::join!(machine.start(StartChoice::default()), machine.start(StartChoice::default()));
    let (first, second) = tokio::join!(all(first.unwrap()), all(second.unwrap()));
    assert_eq!(first.unwrap(), second.unwrap());
}

#[tokio::test]
async fn a_stop_cancels_a_start_and_a_start_works_after_it() {
    let bench = bench("never-boots");
    let machine = bench.machine().await;
    let mut start = Box::pin(machine.start(StartChoice::default()).await.unwrap());
    while start.next().await.unwrap().unwrap().step != "kernel" {}
    let process = machine.status().vmm_process;
    all(machine.stop(false, 0).await.unwrap()).await.unwrap();
    let rest = all(start).await.unwrap_err();
    assert_eq!(crate::error::code_of(&rest), Some("start-cancelled"));
    assert!(!Path::new(&format!("/proc/{process}/exe")).exists(), "the monitor is gone");
    bench.behave("ok");
    all(machine.start(StartChoice::default()).await.unwrap()).await.unwrap();
}

#[tokio::test]
async fn a_start_asked_for_while_it_stops_comes_after() {
    let bench = bench("ok");
    let machine = bench.machine().await;
    all(machine.start(StartChoice::default()).await.unwrap()).await.unwrap();
    let stop = machine.stop(false, 0).await.unwrap();
    let start = machine.start(StartChoice::default()).await.unwrap();
    all(stop).await.unwrap();
    assert!(!all(start).await.unwrap().is_empty());
    assert_eq!(machine.status().state(), State::Running);
}

#[tokio::test]
async fn a_monitor_that_refuses_gives_its_own_words() {
    let bench = bench("refuse");
    let machine = bench.machine().await;
    let status = all(machine.start(StartChoice::default()).await.unwrap()).await.unwrap_err();
    assert_eq!(crate::error::code_of(&status), Some("no-memory"));
    assert!(status.message().contains("too little memory"));
    let machine = machine.status();
    assert_eq!(machine.state(), State::Failed);
    assert!(machine.message.contains("too little memory") && machine.fix.contains("less memory"), "{machine:?}");
}

#[tokio::test]
async fn a_guest_that_crashes_while_it_boots_shows_its_console() {
    let bench = bench("panic");
    let machine = bench.machine().await;
    let status = all(machine.start(StartChoice::default()).await.unwrap()).await.unwrap_err();
    assert_eq!(crate::error::code_of(&status), Some("machine-ended"));
    assert!(status.message().contains("Kernel panic"), "{}", status.message());
    assert_eq!(machine.status().state(), State::Failed);
}

#[tokio::test]
async fn a_killed_monitor_is_seen_at_once_and_stands_in_nobodys_way() {
    let bench = bench("ok");
    let machine = bench.machine().await;
    all(machine.start(StartChoice::default()).await.unwrap()).await.unwrap();
    let process = i32::try_from(machine.status().vmm_process).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(process), nix::sys::signal::Signal::SIGKILL).unwrap();
    let status = until(&machine, State::Failed).await;
    assert!(status.message.contains("monitor was killed"), "{}", status.message);
    assert_eq!(status.vmm_process, 0);
    let refused = machine.agent().unwrap_err();
    assert!(crate::error::failure_of(&refused).unwrap().fix.unwrap().contains("rorqual start"));
    all(machine.start(StartChoice::default()).await.unwrap()).await.unwrap();
}

#[tokio::test]
async fn a_start_right_after_the_monitor_was_killed_starts_it_again() {
    let bench = bench("ok");
    let machine = bench.machine().await;
    for _ in 0..5 {
        all(machine.start(StartChoice::default()).await.unwrap()).await.unwrap();
        let process = i32::try_from(machine.status().vmm_process).unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(process), nix::sys::signal::Signal::SIGKILL).unwrap();
        all(machine.start(StartChoice::default()).await.unwrap()).await.unwrap();
        assert_eq!(machine.status().state(), State::Running);
        assert_ne!(machine.status().vmm_process, process.unsigned_abs());
    }
}

#[tokio::test]
async fn a_machine_outlives_its_daemon_and_is_found_by_the_next() {
    let bench = bench("ok");
    let first = bench.machine().await;
    all(first.start(StartChoice::default()).await.unwrap()).await.unwrap();
    let process = first.status().vmm_process;
    let second = bench.machine().await;
    assert_ne!(second.status().state(), State::Stopped, "never seen stopped");
    let status = until(&second, State::Running).await;
    assert_eq!((status.vmm_process, status.accelerator.as_str()), (process, "uml"));
    assert_eq!(status.accelerator_reason, "no kvm: tried");
    all(second.stop(false, 0).await.unwrap()).await.unwrap();
}

#[tokio::test]
async fn an_engine_that_cannot_run_leaves_the_machine_up_and_says_why() {
    let bench = bench("engine-fails");
    let machine = bench.machine().await;
    let status = all(machine.start(StartChoice::default()).await.unwrap()).await.unwrap_err();
    let failure = crate::error::failure_of(&status).unwrap();
    assert_eq!((failure.code.as_str(), failure.fix.as_deref()), ("engine-failed", Some("free some space")));
    let status = machine.status();
    assert_eq!((status.state(), status.message.as_str()), (State::Degraded, "no space on the data disk"));
    assert_eq!(status.fix, "free some space");
    machine.agent().unwrap();
    all(machine.stop(false, 0).await.unwrap()).await.unwrap();
}

#[tokio::test]
async fn a_guest_that_does_not_shut_down_is_ended_by_force() {
    let bench = bench("deaf");
    let machine = bench.machine().await;
    all(machine.start(StartChoice::default()).await.unwrap()).await.unwrap();
    let polite = machine.stop(false, 0).await.unwrap();
    let force = machine.stop(true, 0).await.unwrap();
    let (polite, force) = tokio::join!(all(polite), all(force));
    polite.unwrap();
    force.unwrap();
    assert_eq!(machine.status().state(), State::Stopped);
}

#[tokio::test]
async fn ports_of_the_guest_are_listened_for_and_told() {
    let bench = bench("ports");
    let machine = bench.machine().await;
    all(machine.start(StartChoice::default()).await.unwrap()).await.unwrap();
    let mut changes = Box::pin(machine.watch());
    let port = loop {
        let status = changes.next().await.unwrap();
        if let Some(port) = status.ports.first() {
            break port.clone();
        }
    };
    assert_eq!(port.bound_address, "127.0.0.1");
    std::net::TcpStream::connect(("127.0.0.1", port.host_port as u16)).unwrap();
    all(machine.stop(false, 0).await.unwrap()).await.unwrap();
    assert!(machine.status().ports.is_empty());
}

#[tokio::test]
async fn a_suspended_machine_goes_on_with_the_next_start() {
    let bench = bench("kvm");
    let machine = bench.machine().await;
    all(machine.start(StartChoice::default()).await.unwrap()).await.unwrap();
    let steps = all(machine.suspend().await.unwrap()).await.unwrap();
    assert_eq!(steps, ["sync", "memory", "power-off"]);
    assert_eq!(machine.status().state(), State::Suspended);
    // Nothing runs any more, and a stop keeps the saved state.
    all(machine.stop(false, 0).await.unwrap()).await.unwrap();
    assert_eq!(machine.status().state(), State::Suspended);
    // The next daemon finds it too.
    let machine = bench.machine().await;
    assert_eq!(machine.status().state(), State::Suspended);
    all(machine.start(StartChoice::default()).await.unwrap()).await.unwrap();
    assert_eq!(machine.status().state(), State::Running);
    assert!(bench.config().restore.is_some());
}

#[tokio::test]
async fn a_cold_start_gives_the_saved_state_up() {
    let bench = bench("kvm");
    let machine = bench.machine().await;
    all(machine.start(StartChoice::default()).await.unwrap()).await.unwrap();
    all(machine.suspend().await.unwrap()).await.unwrap();
    all(machine.start(StartChoice { cold: true, accelerator: None }).await.unwrap()).await.unwrap();
    assert_eq!((machine.status().state(), bench.config().restore), (State::Running, None));
    assert!(!bench.home.machine(&MachineName::default()).snapshot().exists());
}

#[tokio::test]
async fn a_saved_state_that_is_refused_is_given_up_and_the_machine_boots() {
    let bench = bench("kvm");
    let machine = bench.machine().await;
    all(machine.start(StartChoice::default()).await.unwrap()).await.unwrap();
    all(machine.suspend().await.unwrap()).await.unwrap();
    bench.behave("kvm, damaged");
    let entries: Vec<_> = machine.start(StartChoice::default()).await.unwrap().collect().await;
    let said: Vec<_> = entries.into_iter().map(|entry| entry.unwrap().message).collect();
    assert!(said.iter().any(|message| message == "Booting instead: the saved state is damaged"), "{said:?}");
    assert_eq!((machine.status().state(), bench.config().restore), (State::Running, None));
}

#[tokio::test]
async fn a_start_cancels_a_suspension_and_the_machine_goes_on() {
    let bench = bench("kvm, endless");
    let machine = bench.machine().await;
    all(machine.start(StartChoice::default()).await.unwrap()).await.unwrap();
    let suspend = machine.suspend().await.unwrap();
    until(&machine, State::Suspending).await;
    all(machine.start(StartChoice::default()).await.unwrap()).await.unwrap();
    let error = all(suspend).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::Cancelled);
    assert_eq!(machine.status().state(), State::Running);
    // A stop cancels as well, and then stops the machine.
    let suspend = machine.suspend().await.unwrap();
    all(machine.stop(false, 0).await.unwrap()).await.unwrap();
    assert!(all(suspend).await.is_err());
    assert_eq!(machine.status().state(), State::Stopped);
}

#[tokio::test]
async fn a_machine_that_cannot_be_saved_says_why_and_goes_on() {
    let bench = bench("ok");
    let machine = bench.machine().await;
    assert!(all(machine.suspend().await.unwrap()).await.unwrap_err().message().contains("not running"));
    all(machine.start(StartChoice::default()).await.unwrap()).await.unwrap();
    let error = all(machine.suspend().await.unwrap()).await.unwrap_err();
    assert!(error.message().contains("accelerator uml cannot be suspended"), "{error}");
    assert_eq!(machine.status().state(), State::Running);
}

// --- the fake monitor and agent ---

/// Not a test: the monitor's script starts it.
#[test]
#[ignore = "started by the other tests as a process of its own"]
fn pretend_to_be_a_monitor() {
    let (Ok(config), Ok(ready)) = (env::var("FAKE_CONFIG"), env::var("FAKE_READY")) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(monitor(Path::new(&config), &ready));
}

async fn monitor(config_path: &Path, ready: &str) {
    let config: vmm::Config = serde_json::from_slice(&fs::read(config_path).unwrap()).unwrap();
    let scenario = fs::read_to_string(config_path.with_file_name(SCENARIO)).unwrap();
    let say = |line: &str| fs::write(format!("/proc/self/fd/{ready}"), format!("{line}\n")).unwrap();
    if scenario == "refuse" {
        say(r#"{"error":{"code":"no-memory","message":"too little memory for the guest"}}"#);
        return;
    }
    if scenario.contains("damaged") && config.restore.is_some() {
        say(r#"{"error":{"code":"snapshot-invalid","message":"the saved state is damaged"}}"#);
        return;
    }
    let control = UnixListener::bind(&config.control_socket).unwrap();
    let vsock_socket = config.vsock.unwrap().socket;
    let vsock = UnixListener::bind(&vsock_socket).unwrap();
    let (end, _) = broadcast::channel::<String>(4);
    tokio::spawn(serve_control(control, end.clone(), scenario.contains("endless")));
    let guest = Arc::new(Guest { scenario: scenario.clone(), end: end.clone(), ports: Mutex::new(None) });
    let (streams, incoming) = mpsc::channel(4);
    tokio::spawn(serve_vsock(vsock, streams));
    if scenario != "never-boots" {
        let server = tonic::transport::Server::builder().add_service(agent_server::AgentServer::from_arc(guest));
        tokio::spawn(server.serve_with_incoming(ReceiverStream::new(incoming)));
    }
    let mut ended = end.subscribe();
    say(r#"{"ready":true}"#);
    // A real monitor closes its end of the pipe too.
    drop(crate::detached::inherited(ready.parse().unwrap()));
    match scenario.as_str() {
        "panic" => {
            fs::write(&config.console_log, "booting\nKernel panic - not syncing: pretended\n").unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
            let _ = end.send("crashed".to_owned());
        }
        "never-boots" => {}
        _ => {
            let notice = vsock_socket.with_file_name("vsock.sock_1024");
            drop(UnixStream::connect(notice).await);
        }
    }
    ended.recv().await.unwrap();
    // Time for the event to reach the watchers.
    tokio::time::sleep(Duration::from_millis(20)).await;
    std::process::exit(0);
}

/// With `endless` a save never ends.
async fn serve_control(listener: UnixListener, end: broadcast::Sender<String>, endless: bool) {
    while let Ok((stream, _)) = listener.accept().await {
        let (end, mut ended) = (end.clone(), end.subscribe());
        tokio::spawn(async move {
            let mut stream = BufReader::new(stream);
            let mut line = String::new();
            while stream.read_line(&mut line).await.unwrap_or(0) > 0 {
                if line.contains("save") {
                    let progress = b"{\"progress\":{\"done_bytes\":1048576,\"total_bytes\":2097152}}\n";
                    let _ = stream.get_mut().write_all(progress).await;
                    if endless {
                        let _ = stream.read_u8().await;
                        return;
                    }
                    let request: serde_json::Value = serde_json::from_str(&line).unwrap();
                    let directory = Path::new(request["directory"].as_str().unwrap());
                    fs::create_dir_all(directory).unwrap();
                    fs::write(directory.join(vmm::SNAPSHOT_DOCUMENT), "pretended").unwrap();
                }
                let answer = if line.contains("state") {
                    r#"{"ok":{"state":"running","accelerator":"uml","process":1,"uptime_ms":5}}"#
                } else {
                    r#"{"ok":{}}"#
                };
                let _ = stream.get_mut().write_all(format!("{answer}\n").as_bytes()).await;
                if line.contains("kill") {
                    let _ = end.send("killed".to_owned());
                }
                if line.contains("watch") {
                    let reason = ended.recv().await.unwrap();
                    let event = format!("{{\"event\":\"exited\",\"reason\":\"{reason}\",\"detail\":\"\"}}\n");
                    let _ = stream.get_mut().write_all(event.as_bytes()).await;
                }
                line.clear();
            }
        });
    }
}

async fn serve_vsock(listener: UnixListener, streams: mpsc::Sender<std::io::Result<UnixStream>>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let mut line = Vec::new();
        while !line.ends_with(b"\n") {
            line.push(stream.read_u8().await.unwrap());
        }
        assert_eq!(line, b"CONNECT 1024\n");
        stream.write_all(b"OK 1073741824\n").await.unwrap();
        let _ = streams.send(Ok(stream)).await;
    }
}

struct Guest {
    scenario: String,
    end: broadcast::Sender<String>,
    ports: Mutex<Option<mpsc::Sender<Result<guest_api::PortChange, Status>>>>,
}

type Streamed<T> = BoxStream<'static, Result<T, Status>>;

fn of<T: Send + 'static>(items: Vec<T>) -> Streamed<T> {
    tokio_stream::iter(items.into_iter().map(Ok)).boxed()
}

#[tonic::async_trait]
impl agent_server::Agent for Guest {
    type WatchEngineStream = Streamed<guest_api::EngineState>;
    type ShutdownStream = Streamed<guest_api::ShutdownStep>;
    type LogsStream = Streamed<guest_api::LogChunk>;
    type ShellStream = Streamed<guest_api::ShellOutput>;
    type PortsStream = Streamed<guest_api::PortChange>;

    async fn health(&self, _: Request<guest_api::HealthRequest>) -> Result<Response<guest_api::HealthReply>, Status> {
        let kernel_release = "6.12-pretended".to_owned();
        Ok(Response::new(guest_api::HealthReply { kernel_release, ..guest_api::HealthReply::default() }))
    }

    async fn watch_engine(
        &self,
        _: Request<guest_api::WatchEngineRequest>,
    ) -> Result<Response<Self::WatchEngineStream>, Status> {
        let state = |phase: engine_state::Phase, message: &str| guest_api::EngineState {
            phase: phase.into(),
            message: message.to_owned(),
            restarts: 0,
            fix: if message.is_empty() { String::new() } else { "free some space".to_owned() },
        };
        let last = if self.scenario == "engine-fails" {
            state(engine_state::Phase::Failed, "no space on the data disk")
        } else {
            state(engine_state::Phase::Ready, "")
        };
        let states = of(vec![state(engine_state::Phase::Starting, ""), last]);
        Ok(Response::new(states.chain(futures_util::stream::pending()).boxed()))
    }

    async fn shutdown(&self, _: Request<guest_api::ShutdownRequest>) -> Result<Response<Self::ShutdownStream>, Status> {
        if self.scenario == "deaf" {
            return Ok(Response::new(futures_util::stream::pending().boxed()));
        }
        let names = ["containers", "dockerd", "containerd", "trim", "unmount", "power-off"];
        let steps = names.map(|name| guest_api::ShutdownStep { name: name.to_owned(), ..Default::default() });
        let end = self.end.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            end.send("power-off".to_owned())
        });
        Ok(Response::new(of(steps.to_vec()).chain(futures_util::stream::pending()).boxed()))
    }

    async fn sync(&self, _: Request<guest_api::SyncRequest>) -> Result<Response<guest_api::SyncReply>, Status> {
        Ok(Response::new(guest_api::SyncReply {}))
    }

    async fn set_time(
        &self,
        _: Request<guest_api::SetTimeRequest>,
    ) -> Result<Response<guest_api::SetTimeReply>, Status> {
        Ok(Response::new(guest_api::SetTimeReply::default()))
    }

    async fn logs(&self, _: Request<guest_api::LogsRequest>) -> Result<Response<Self::LogsStream>, Status> {
        Ok(Response::new(of(vec![guest_api::LogChunk { data: b"line\n".to_vec() }])))
    }

    async fn shell(&self, _: Request<Streaming<guest_api::ShellInput>>) -> Result<Response<Self::ShellStream>, Status> {
        Err(Status::unimplemented("the pretence has no shell"))
    }

    async fn ports(
        &self,
        _: Request<Streaming<guest_api::PortVerdict>>,
    ) -> Result<Response<Self::PortsStream>, Status> {
        let (sender, changes) = mpsc::channel(4);
        let synchronized = guest_api::port_change::Change::Synchronized(true);
        sender.try_send(Ok(guest_api::PortChange { id: 0, change: Some(synchronized) })).unwrap();
        if self.scenario == "ports" {
            let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let port = guest_api::PublishedPort {
                protocol: guest_api::published_port::Protocol::Tcp.into(),
                host_address: "0.0.0.0".to_owned(),
                host_port: free.into(),
                container_address: "172.17.0.2".to_owned(),
                container_port: 80,
                kind: guest_api::published_port::Kind::Container.into(),
            };
            let open = guest_api::port_change::Change::Open(port);
            sender.try_send(Ok(guest_api::PortChange { id: 1, change: Some(open) })).unwrap();
        }
        *self.ports.lock().unwrap() = Some(sender);
        Ok(Response::new(ReceiverStream::new(changes).boxed()))
    }

    async fn data_disk(
        &self,
        _: Request<guest_api::DataDiskRequest>,
    ) -> Result<Response<guest_api::DataDiskReply>, Status> {
        Err(Status::unimplemented("the pretence has no disk"))
    }
}
