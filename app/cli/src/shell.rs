//! `rorqual shell`: a shell or a command in the machine, on the terminal at hand or between pipes.
//!
//! Three parts run side by side: a thread that reads standard input (a blocking read cannot be taken back), the task
//! that writes what comes from the machine, and the signals. They meet in one channel of inputs to the daemon.

use std::{
    io::{self, Write},
    thread,
};

use rorqual_engine::api::{
    ShellInput, ShellOutput, ShellStart, TerminalSize, shell_input::Input, shell_output::Output,
};
use serde_json::json;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc::{self, Sender},
};
use tokio_stream::wrappers::ReceiverStream;

use crate::{
    error::CommandError,
    failure::Failure,
    session::{self, Session},
    terminal::{self, RawTerminal},
};

/// Bytes read from standard input at once.
const READ_SIZE: usize = 16 * 1024;

/// Inputs waiting for the daemon; standard input waits when there are more.
const QUEUE: usize = 16;

/// Runs it; the result is the command's own exit status.
pub(crate) async fn shell(session: &Session, command: Vec<String>) -> Result<u8, Failure> {
    if session.json && command.is_empty() {
        return Err(CommandError::CommandMissing.into());
    }
    run(session, command).await.map_err(Failure::without_command_status)
}

async fn run(session: &Session, command: Vec<String>) -> Result<u8, Failure> {
    let mut client = session.daemon().await?;
    let interactive = !session.json && terminal::is_interactive();
    let start = ShellStart {
        machine: session.machine(),
        command,
        term: if interactive { std::env::var("TERM").unwrap_or_else(|_| "xterm".to_owned()) } else { String::new() },
        size: interactive.then(terminal_size).flatten(),
    };
    let (inputs, queue) = mpsc::channel(QUEUE);
    // The queue is empty and its reader is here: this cannot wait.
    let _ = inputs.send(ShellInput { input: Some(Input::Start(start)) }).await;

    // Raw mode begins once the daemon has accepted: its refusal is printed on a sound terminal.
    let mut outputs = client.shell(ReceiverStream::new(queue)).await?.into_inner();
    let _raw = if interactive { Some(RawTerminal::enter().map_err(CommandError::Terminal)?) } else { None };
    read_input(inputs.clone());

    let mut resized = signal(SignalKind::window_change()).map_err(CommandError::Signals)?;
    let mut end = EndSignals::listen().map_err(CommandError::Signals)?;
    let mut collected = Collected::default();
    loop {
        let message = tokio::select! {
            message = outputs.message() => message?,
            _ = resized.recv(), if interactive => {
                if let Some(size) = terminal_size() {
                    // A full queue means the daemon lags; the next change of size brings the newest one.
                    let _ = inputs.try_send(ShellInput { input: Some(Input::Resize(size)) });
                }
                continue;
            }
            () = end.caught() => {
                return Err(CommandError::ShellEnded.into());
            }
        };
        match message.and_then(|ShellOutput { output }| output) {
            Some(Output::Stdout(data)) if session.json => collected.stdout.extend(data),
            Some(Output::Stderr(data)) if session.json => collected.stderr.extend(data),
            Some(Output::Stdout(data)) => session::print_bytes(&data)?,
            // Standard error closed by its reader is no reason to end the command.
            Some(Output::Stderr(data)) => drop(io::stderr().write_all(&data)),
            Some(Output::ExitStatus(status)) => {
                if session.json {
                    collected.print(status)?;
                }
                return Ok(u8::try_from(status).unwrap_or(u8::MAX));
            }
            None => return Err(CommandError::ShellLost.into()),
        }
    }
}

/// Passes standard input on until its end, from a thread that is left behind when the command ends first.
fn read_input(inputs: Sender<ShellInput>) {
    thread::spawn(move || {
        let mut buffer = vec![0; READ_SIZE];
        loop {
            let input = match rustix::io::read(rustix::stdio::stdin(), &mut buffer[..]) {
                Err(rustix::io::Errno::INTR) => continue,
                Ok(0) | Err(_) => Input::Close(true),
                Ok(count) => Input::Data(buffer[..count].to_vec()),
            };
            let last = matches!(input, Input::Close(_));
            if inputs.blocking_send(ShellInput { input: Some(input) }).is_err() || last {
                return;
            }
        }
    });
}

fn terminal_size() -> Option<TerminalSize> {
    terminal::size().map(|(columns, rows)| TerminalSize { columns, rows })
}

/// What a command printed, for `--json`.
#[derive(Default)]
struct Collected {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Collected {
    fn print(&self, status: i32) -> Result<(), Failure> {
        session::print_json(&json!({
            "exit_status": status,
            "stdout": String::from_utf8_lossy(&self.stdout),
            "stderr": String::from_utf8_lossy(&self.stderr),
        }))
    }
}

/// Signals that end this process. On a raw terminal Ctrl-C is a byte for the shell, not one of them.
struct EndSignals {
    terminate: Signal,
    hang_up: Signal,
    interrupt: Signal,
}

impl EndSignals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn caught(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
