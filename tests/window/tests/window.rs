//! The real window on a real machine.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use rorqual_tests::{IMAGE, Machine, Run, eventually, eventually_ok, suite, tests};
use rorqual_window_tests::{Application, Notifications, Tray};

fn main() -> ExitCode {
    // One display and one session bus: one application at a time.
    suite::main(
        1,
        machine,
        tests![
            a_running_container_is_shown_stopped_and_started,
            a_terminal_takes_what_is_typed,
            a_fast_log_leaves_the_window_usable,
            a_file_arrives_whole,
            the_window_survives_a_daemon_that_ends_and_returns,
            closing_the_window_leaves_the_tray,
            the_tray_shows_and_stops_containers,
            without_a_tray_closing_the_window_ends_the_application,
            quitting_works_without_a_daemon,
            only_a_container_that_dies_unexpectedly_is_notified,
            a_second_start_shows_the_window_and_follows_its_link,
            the_page_can_do_no_more_than_it_is_given,
        ],
    )
}

fn machine() -> Result<Machine> {
    let machine = Machine::start()?;
    machine.run("run -d --name web -p 18080:80 rorqual/hello")?;
    machine.run("run -d --init --name shell test sleep 1000000")?;
    Ok(machine)
}

fn is_running(machine: &Machine, name: &str) -> Result<bool> {
    Ok(machine.run(&format!("inspect -f {{{{.State.Running}}}} {name}"))? == "true")
}

fn becomes_running(machine: &Machine, name: &str, running: bool) -> Result<()> {
    let what = format!("{name} {}", if running { "runs" } else { "has stopped" });
    eventually(&what, || is_running(machine, name).ok().filter(|now| *now == running)).map(drop)
}

fn a_running_container_is_shown_stopped_and_started(machine: &Machine) -> Result<()> {
    let application = Application::start(machine, "a-running-container-is-shown-stopped-and-started")?;
    application.containers()?;
    application.page.find("//button[@aria-label='Stop web']")?;
    application.page.find("//a[normalize-space()=':18080']")?;
    application.page.click("//button[@aria-label='Stop web']")?;
    becomes_running(machine, "web", false)?;
    application.page.click("//button[@aria-label='Start web']")?;
    becomes_running(machine, "web", true)?;
    application.page.find("//button[@aria-label='Stop web' and not(@disabled)]").map(drop)
}

/// Opens a tab of a container's details.
fn open(application: &Application, container: &str, tab: &str) -> Result<()> {
    application.containers()?;
    application.page.click(&format!("//button[span[normalize-space()='{container}']]"))?;
    application.page.click(&format!("//button[@id='tab-{tab}']"))
}

fn a_terminal_takes_what_is_typed(machine: &Machine) -> Result<()> {
    let application = Application::start(machine, "a-terminal-takes-what-is-typed")?;
    open(&application, "shell", "terminal")?;
    let keyboard = application.page.find("//textarea[contains(@class,'xterm-helper-textarea')]")?;
    // A prompt: the shell is running.
    application.page.reads(".xterm-rows", "#")?;
    keyboard.type_text("echo from-$((6*7))\u{e007}")?;
    application.page.reads(".xterm-rows", "from-42")?;
    // Many pieces in sequence: none may overtake another.
    keyboard.type_text("echo abcdefghijklmnopqrstuvwxyz0123456789 > /tmp/typed\u{e007}")?;
    eventually_ok("what was typed arrived in order", || {
        let typed = machine.run("exec shell cat /tmp/typed")?;
        ensure!(typed == "abcdefghijklmnopqrstuvwxyz0123456789", "{typed}");
        Ok(())
    })
}

fn a_fast_log_leaves_the_window_usable(machine: &Machine) -> Result<()> {
    let lines = "yes a-line-of-a-log | head -n 200000; exec sleep 1000000";
    machine
        .docker(["run", "-d", "--init", "--stop-timeout", "1", "--name", "fast", IMAGE, "sh", "-c", lines])
        .run()?
        .success()?;
    let application = Application::start(machine, "a-fast-log-leaves-the-window-usable")?;
    open(&application, "fast", "logs")?;
    application.page.reads("[role=tabpanel]", "a-line-of-a-log")?;
    // The page still responds while the log streams.
    application.page.click("//button[@aria-label='Stop fast' or @aria-label='Stop']")?;
    becomes_running(machine, "fast", false)?;
    machine.run("rm -f fast").map(drop)
}

/// Sends bytes both ways, more than a frame and more than the credit: the page's own commands write a file and read it
/// back.
fn a_file_arrives_whole(machine: &Machine) -> Result<()> {
    let application = Application::start(machine, "a-file-arrives-whole")?;
    application.containers()?;
    application.page.script(WRITE_AND_READ)?;
    eventually_ok("the file was written and read", || {
        let outcome = application.page.script("return window.outcome ?? 'not yet'")?;
        ensure!(outcome == "same", "{outcome}");
        Ok(())
    })?;
    let size = machine.run("exec shell stat -c %s /tmp/written")?;
    ensure!(size == "9000000", "{size}");
    Ok(())
}

/// Speaks the protocol of `ui/src/lib/backend/tauri.ts`: uploads 9 MB in pieces, downloads them, and compares every
/// byte.
const WRITE_AND_READ: &str = r"
const { invoke, transformCallback } = window.__TAURI_INTERNALS__;
const place = { kind: 'container', id: 'shell' };
const size = 9_000_000, piece = 65_536;
const sent = new Uint8Array(size).map((_, at) => (at * 31 + (at >> 8)) & 255);
// Messages may arrive out of order; each carries its position.
function receive(onFrame) {
  let next = 0; const early = new Map();
  const id = transformCallback((message) => {
    if ('end' in message && !('message' in message)) return;
    early.set(message.index, message.message);
    while (early.has(next)) { const frame = early.get(next); early.delete(next); next += 1; onFrame(frame); }
  });
  return '__CHANNEL__:' + id;
}
function stream(id, name, params, onBytes) {
  return new Promise((resolve, reject) => {
    let taken = 0;
    const channel = receive((frame) => {
      if (frame.error) return reject(new Error(frame.error.message));
      if (frame.end) return resolve();
      if (frame instanceof ArrayBuffer) onBytes?.(new Uint8Array(frame));
      taken += 1;
      if (taken === 32) { invoke('stream_credit', { id, events: taken }); taken = 0; }
    });
    invoke('stream_open', { id, name, params, channel }).then(() => stream.opened?.(id), reject);
  });
}
(async () => {
  stream.opened = async (id) => {
    stream.opened = undefined;
    const headers = { stream: String(id) };
    for (let at = 0; at < size; at += piece) await invoke('stream_bytes', sent.slice(at, at + piece), { headers });
    await invoke('stream_input', { id, input: { kind: 'finish' } });
  };
  await stream(900001, 'files.write', { target: { place, path: '/tmp/written' }, size, mode: null });
  let at = 0, same = true;
  await stream(900002, 'files.read', { place, path: '/tmp/written' }, (bytes) => {
    for (const byte of bytes) same &&= byte === sent[at++];
  });
  window.outcome = same && at === size ? 'same' : `different: ${at} bytes`;
})().catch((error) => { window.outcome = 'failed: ' + (error.message ?? JSON.stringify(error)); });
";

fn the_window_survives_a_daemon_that_ends_and_returns(machine: &Machine) -> Result<()> {
    let application = Application::start(machine, "the-window-survives-a-daemon-that-ends-and-returns")?;
    application.containers()?;
    machine.rorqual(["quit", "-q"]).run()?.success()?;
    application.keep_picture("without-daemon")?;
    application.page.click("//button[normalize-space()='Start Rorqual']")?;
    application.containers()?;
    ensure!(machine.daemon_process()?.is_some(), "the window started no daemon");
    ensure!(is_running(machine, "web")?, "the machine did not keep running");
    application.page.click("//button[@aria-label='Stop web']")?;
    becomes_running(machine, "web", false)?;
    application.page.click("//button[@aria-label='Start web']")?;
    becomes_running(machine, "web", true)
}

fn closing_the_window_leaves_the_tray(machine: &Machine) -> Result<()> {
    let tray = Tray::open()?;
    let application = Application::start(machine, "closing-the-window-leaves-the-tray")?;
    application.containers()?;
    tray.line(&["Open Rorqual"])?;
    application.screen.close("Rorqual")?;
    application.becomes_shown(false)?;
    // A hidden page ends its streams.
    eventually_ok("the page is hidden", || {
        let state = application.page.script("return document.visibilityState")?;
        ensure!(state == "hidden", "it is {state}");
        Ok(())
    })?;
    tray.click(&["Open Rorqual"])?;
    application.becomes_shown(true)?;
    application.containers()
}

fn the_tray_shows_and_stops_containers(machine: &Machine) -> Result<()> {
    let tray = Tray::open()?;
    let _application = Application::start(machine, "the-tray-shows-and-stops-containers")?;
    tray.line(&["Machine running, 2 containers"])?;
    tray.line(&["web", "Open localhost:18080"])?;
    tray.click(&["web", "Stop"])?;
    becomes_running(machine, "web", false)?;
    tray.line(&["Machine running, 1 container"])?;
    machine.run("start web")?;
    tray.line(&["web", "Stop"]).map(drop)
}

fn without_a_tray_closing_the_window_ends_the_application(machine: &Machine) -> Result<()> {
    let application = Application::start(machine, "without-a-tray-closing-the-window-ends-the-application")?;
    application.screen.close("Rorqual")?;
    application.ends()?;
    ensure!(is_running(machine, "web")?, "the machine ended with the window");
    Ok(())
}

fn quitting_works_without_a_daemon(machine: &Machine) -> Result<()> {
    let tray = Tray::open()?;
    let application = Application::start(machine, "quitting-works-without-a-daemon")?;
    tray.line(&["Machine running, 2 containers"])?;
    machine.rorqual(["quit", "-q"]).run()?.success()?;
    tray.line(&["The daemon is not responding"])?;
    tray.click(&["Quit Rorqual"])?;
    application.ends()
}

fn only_a_container_that_dies_unexpectedly_is_notified(machine: &Machine) -> Result<()> {
    let (tray, notifications) = (Tray::open()?, Notifications::open()?);
    let application = Application::start(machine, "only-a-container-that-dies-unexpectedly-is-notified")?;
    application.containers()?;
    tray.line(&["Machine running, 2 containers"])?;
    application.screen.close("Rorqual")?;
    application.becomes_shown(false)?;
    machine.run("run -d --init --name stopped test sleep 1000000")?;
    machine.run("stop stopped")?;
    machine.docker(["run", "-d", "--name", "dies", IMAGE, "sh", "-c", "exit 3"]).run()?.success()?;
    notifications.click("dies stopped unexpectedly")?;
    application.becomes_shown(true)?;
    let id = machine.run("inspect -f {{.Id}} dies")?;
    eventually_ok("the page shows it", || {
        let place = application.page.script("return location.hash")?;
        ensure!(place == format!("#/containers/{id}"), "it is at {place}");
        Ok(())
    })?;
    let titles = notifications.titles();
    ensure!(titles == ["dies stopped unexpectedly"], "{titles:?}");
    machine.run("rm -f stopped dies").map(drop)
}

fn a_second_start_shows_the_window_and_follows_its_link(machine: &Machine) -> Result<()> {
    let tray = Tray::open()?;
    let application = Application::start(machine, "a-second-start-shows-the-window-and-follows-its-link")?;
    application.containers()?;
    tray.line(&["Open Rorqual"])?;
    application.screen.close("Rorqual")?;
    application.becomes_shown(false)?;
    application.start_again(&[])?;
    application.becomes_shown(true)?;
    application.start_again(&["rorqual://container/shell"])?;
    let id = machine.run("inspect -f {{.Id}} shell")?;
    let shows = |place: String| {
        eventually_ok(&format!("the page is at {place}"), || {
            let now = application.page.script("return location.hash")?;
            ensure!(now == place.as_str(), "it is at {now}");
            Ok(())
        })
    };
    shows(format!("#/containers/{id}"))?;
    application.start_again(&["rorqual://container/shell');document.body.remove();('"])?;
    shows(format!("#/containers/{id}"))?;
    application.page.find("//nav").map(drop)
}

/// No Tauri API, no foreign script, no other page.
fn the_page_can_do_no_more_than_it_is_given(machine: &Machine) -> Result<()> {
    let application = Application::start(machine, "the-page-can-do-no-more-than-it-is-given")?;
    let attempts = [
        ("the commands of a plugin", "await window.__TAURI_INTERNALS__.invoke('plugin:autostart|enable')"),
        (
            "the window's own commands",
            "await window.__TAURI_INTERNALS__.invoke('plugin:window|set_title', { value: 'x' })",
        ),
        (
            "events",
            "await window.__TAURI_INTERNALS__.invoke('plugin:event|listen', \
             { event: 'x', target: { kind: 'Any' }, handler: 0 })",
        ),
        ("text as a script", "new Function('return 1')()"),
        ("requests elsewhere", "await fetch('http://127.0.0.1:18080/')"),
    ];
    for (what, attempt) in attempts {
        application.page.script(&format!(
            "window.outcome = undefined; (async () => {{ {attempt} }})() \
             .then(() => window.outcome = 'done', () => window.outcome = 'refused')"
        ))?;
        let outcome =
            eventually(what, || application.page.script("return window.outcome").ok()?.as_str().map(str::to_owned))?;
        ensure!(outcome == "refused", "the page could use {what}");
    }
    ensure!(application.page.script("return typeof window.__TAURI__")? == "undefined", "Tauri's API is global");
    application.page.script("location.href = 'http://localhost:18080/'")?;
    // The page is still there and still ours.
    application.page.find("//nav")?;
    let place = application.page.script("return location.href")?;
    ensure!(place.as_str().is_some_and(|place| place.starts_with("tauri://localhost")), "the window went to {place}");
    Ok(())
}
