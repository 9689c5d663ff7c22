//! The agent's own log, on the console and in a ring for rpc Logs, and the end of the machine when PID 1 cannot
//! continue.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{LazyLock, OnceLock};

use anyhow::{Context, Result};
use nix::sys::reboot::{RebootMode, reboot};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

use crate::clock;
use crate::log_ring::{KEPT_BYTES, LogRing};

static RING: LazyLock<LogRing> = LazyLock::new(|| LogRing::new(KEPT_BYTES));
static FILTER: OnceLock<reload::Handle<Targets, tracing_subscriber::Registry>> = OnceLock::new();

/// The agent's log.
pub(crate) fn ring() -> &'static LogRing {
    &RING
}

/// Starts the log, at level info.
pub(crate) fn start() {
    let (filter, handle) = reload::Layer::new(Targets::new().with_default(LevelFilter::INFO));
    let format = tracing_subscriber::fmt::layer().with_ansi(false).with_timer(Uptime).with_writer(ConsoleAndRing);
    // Fails only if a subscriber was set already.
    let _ = tracing_subscriber::registry().with(filter).with(format).try_init();
    let _ = FILTER.set(handle);
}

/// Sets the filter of `rorqual.log`. An invalid one is logged and ignored.
pub(crate) fn set_filter(text: &str) {
    let result = text.parse::<Targets>().map_err(|error| error.to_string()).and_then(|filter| {
        FILTER.get().map_or(Ok(()), |handle| handle.reload(filter).map_err(|error| error.to_string()))
    });
    if let Err(error) = result {
        tracing::warn!("rorqual.log={text} on the kernel's command line is not a log filter, using info: {error}");
    }
}

/// Makes `/dev/console` the standard streams if the kernel could not, since it looks for it before `/dev` is mounted.
pub(crate) fn open_console() -> Result<()> {
    let usable = std::fs::read_link("/proc/self/fd/1").is_ok_and(|target| target.ends_with("console"));
    if usable {
        return Ok(());
    }
    let console = open("/dev/console").or_else(|_| open("/dev/null")).context("cannot open /dev/console")?;
    use_console(&console)
}

/// Makes the virtio console the standard streams, if the machine has one: a line costs one exit to the monitor there,
/// and several for each byte on the serial port. The kernel keeps logging to the serial port, so that its last words
/// depend on no driver. The monitor writes both into one log.
pub(crate) fn move_to_virtio_console() {
    let Ok(console) = open("/dev/hvc0") else { return };
    if let Err(error) = use_console(&console) {
        tracing::warn!("the log stays on the first console: {error:#}");
    }
}

fn open(console: &str) -> io::Result<File> {
    // Otherwise keys pressed on the console would reach init as signals.
    OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOCTTY).open(console)
}

fn use_console(console: &File) -> Result<()> {
    nix::unistd::dup2_stdin(console).context("cannot make the console the standard input")?;
    nix::unistd::dup2_stdout(console).context("cannot make the console the standard output")?;
    nix::unistd::dup2_stderr(console).context("cannot make the console the standard error")?;
    debug_assert!(console.as_raw_fd() > 2);
    Ok(())
}

/// Ends the machine when PID 1 cannot do its work: logs the reason on the console, writes memory to the disks and
/// powers off. If PID 1 merely ended, the kernel would panic without the reason.
pub(crate) fn power_off_because(reason: &str) -> ! {
    let mut console = io::stdout();
    let _ = writeln!(console, "rorqual-agent: {reason}\nrorqual-agent: the machine powers off");
    let _ = console.flush();
    power_off()
}

/// Writes memory to the disks and powers off.
pub(crate) fn power_off() -> ! {
    nix::unistd::sync();
    let error = reboot(RebootMode::RB_POWER_OFF);
    let _ = writeln!(io::stdout(), "rorqual-agent: cannot power off: {error:?}");
    // PID 1 must not end. If the kernel refuses to power off, only waiting to be killed is left.
    loop {
        std::thread::park();
    }
}

/// Has a panic in any thread log its reason and power the machine off.
pub(crate) fn power_off_on_panic() {
    std::panic::set_hook(Box::new(|panic| power_off_because(&format!("a defect of the agent: {panic}"))));
}

/// Seconds since the kernel started, as in the kernel's own log.
struct Uptime;

impl FormatTime for Uptime {
    fn format_time(&self, line: &mut Writer<'_>) -> std::fmt::Result {
        let uptime = clock::uptime_ms();
        write!(line, "[{:5}.{:03}]", uptime / 1000, uptime % 1000)
    }
}

/// The destination of log lines.
struct ConsoleAndRing;

impl<'a> MakeWriter<'a> for ConsoleAndRing {
    type Writer = Self;

    fn make_writer(&'a self) -> Self::Writer {
        Self
    }
}

impl Write for ConsoleAndRing {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        RING.write(line);
        // A lost console must not stop the agent.
        let _ = io::stdout().write_all(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
