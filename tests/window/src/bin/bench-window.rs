//! The cost of the window on a real machine: time until it is usable, memory with a long log, CPU time while hidden.
//!
//! `make bench-window` gives it a display and a session bus of its own. Options: `--rounds N` starts (5), `--seconds N`
//! hidden (60).

use std::{
    env, fs, thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, ensure};
use rorqual_tests::{
    IMAGE, Machine, Run, Series, eventually_ok,
    processes::family,
    usage::{Activity, memory},
};
use rorqual_window_tests::{Application, Tray, application::TITLE};
use serde_json::Value;

/// Lines of the long log.
const LINES: u32 = 100_000;
/// Height of a line in the page, in pixels.
const ROW: f64 = 18.0;
/// Pause between hiding the window and the observation.
const SETTLE: Duration = Duration::from_secs(5);

fn main() -> Result<()> {
    let rounds = option("--rounds", 5)?;
    let seconds = option("--seconds", 60)?;
    let machine = Machine::start()?;
    machine.run("run -d --name web -p 18080:80 rorqual/hello")?;
    let write = format!("/bin/busybox seq {LINES} | /bin/busybox sed 's/.*/line & of a long log/'");
    machine.docker(["run", "-d", "--name", "long", IMAGE, "sh", "-c", &write]).run()?.success()?;
    let mut starts = Vec::new();
    for _ in 0..rounds {
        starts.push(start(&machine)?);
    }
    report("start to a usable list of containers", starts, "s");
    let _tray = Tray::open()?;
    let application = Application::start(&machine, "bench")?;
    application.containers()?;
    report("memory with the list (PSS of all its processes)", vec![megabytes(&application)?], "MB");
    log(&application)?;
    let searches = ["99999", "7 of", "line", "no such", "5555"].map(|text| search(&application, text));
    report("100,000 log lines: search", searches.into_iter().collect::<Result<_>>()?, "ms");
    report("memory with the log (PSS of all its processes)", vec![megabytes(&application)?], "MB");
    hidden(&machine, &application, seconds)
}

fn option(name: &str, default: u64) -> Result<u64> {
    let mut words = env::args().skip_while(|word| word != name);
    match (words.next(), words.next()) {
        (None, _) => Ok(default),
        (Some(_), value) => {
            value.and_then(|value| value.parse().ok()).with_context(|| format!("{name} wants a number"))
        }
    }
}

#[allow(clippy::print_stdout)]
fn report(what: &str, values: Vec<f64>, unit: &str) {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let median = Series::of(values).median;
    println!("{what:<56} {median:>8.2} {unit} ({least:.2} to {most:.2})");
}

/// Seconds from the start of the process until the list is painted, by the page's clock.
fn start(machine: &Machine) -> Result<f64> {
    let application = Application::start(machine, "bench-start")?;
    let process = application.process()?;
    let seen = eventually_ok("the page has its list", || {
        let seen = application.page.script(
            "const first = document.querySelector('main [role=listitem], main h1');
             const paint = performance.getEntriesByName('first-contentful-paint')[0];
             return first && paint ? performance.timeOrigin + paint.startTime : null",
        )?;
        seen.as_f64().context("not yet")
    })?;
    Ok((seen - started(process)?) / 1000.0)
}

/// When a process started, in milliseconds since 1970; to 10 ms.
fn started(process: i32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // Field 22, counted after the name, in ticks since boot (proc(5)).
    let ticks: f64 = stat
        .rsplit_once(')')
        .and_then(|(_, fields)| fields.split_whitespace().nth(19)?.parse().ok())
        .context("the process has no time of start")?;
    let uptime = fs::read_to_string("/proc/uptime")?;
    let uptime: f64 = uptime.split(' ').next().and_then(|seconds| seconds.parse().ok()).context("no uptime")?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
    Ok((now - uptime + ticks / 100.0) * 1000.0)
}

/// Proportional set size of the application and all its children, in megabytes.
fn megabytes(application: &Application) -> Result<f64> {
    let bytes = family(application.process()?).into_iter().filter_map(|process| memory(process).ok());
    let bytes: u64 = bytes.map(|(own, shared)| own + shared).sum();
    ensure!(bytes > 0, "the application's memory cannot be read");
    Ok(f64::from(u32::try_from(bytes / 1000)?) / 1000.0)
}

/// Opens the long log and waits until it is complete.
fn log(application: &Application) -> Result<()> {
    application.page.script("location.hash = '/containers'")?;
    application.page.click("//button[span[normalize-space()='long']]")?;
    application.page.click("//button[@id='tab-logs']")?;
    eventually_ok("the whole log is in the page", || {
        let height = application.page.script("return document.querySelector('[role=log]')?.scrollHeight ?? 0")?;
        let height = height.as_f64().unwrap_or(0.0);
        ensure!(height >= f64::from(LINES) * ROW, "it is {height} pixels high");
        Ok(())
    })
}

/// Milliseconds from a change of the search field until the number of matches has changed and the page is laid out.
fn search(application: &Application, text: &str) -> Result<f64> {
    let text = Value::from(text);
    application.page.script(&format!(
        "const input = document.querySelector('input[aria-label=\"Search logs\"]');
         const count = 'input[aria-label=\"Search logs\"] ~ [role=status]';
         const shown = () => document.querySelector(count)?.textContent ?? '';
         const before = shown();
         window.searched = null;
         const begun = performance.now();
         input.value = {text};
         input.dispatchEvent(new Event('input', {{ bubbles: true }}));
         const look = () => {{
           if (shown() === before) {{ setTimeout(look); return; }}
           document.body.getBoundingClientRect();
           window.searched = performance.now() - begun;
         }};
         look();"
    ))?;
    eventually_ok("the search ends", || application.page.script("return window.searched")?.as_f64().context("not yet"))
}

/// Closes the window to the tray and observes its usage while hidden.
fn hidden(machine: &Machine, application: &Application, seconds: u64) -> Result<()> {
    application.screen.close(TITLE)?;
    application.becomes_shown(false)?;
    let daemon = machine.daemon_process()?.context("no daemon runs")?;
    let window = || Ok::<_, anyhow::Error>(Activity::of_all(family(application.process()?)));
    thread::sleep(SETTLE);
    let before = (window()?, Activity::of_all([daemon]));
    thread::sleep(Duration::from_secs(seconds));
    for (part, spent) in [("window", window()?.since(before.0)), ("daemon", Activity::of_all([daemon]).since(before.1))]
    {
        let wakeups = f64::from(u32::try_from(spent.wakeups)?);
        report(&format!("hidden for {seconds} s: processor time of the {part}"), vec![spent.seconds()], "s");
        report(&format!("hidden for {seconds} s: wakeups of the {part}"), vec![wakeups], "");
    }
    Ok(())
}
