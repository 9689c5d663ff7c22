//! `rorqual shell`: a shell or a command in the machine, on the current terminal or between pipes.
//!
//! Three parts run concurrently: a thread that reads standard input (a blocking read cannot be cancelled), the task
//! that writes the machine's output, and the signal handlers. All send their inputs for the daemon through one channel.

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

/// Maximum number of bytes per read of standard input.
const READ_SIZE: usize = 16 * 1024;

/// Maximum number of inputs queued for the daemon; at this, reading standard input waits.
const QUEUE: usize = 16;

/// Runs the command and returns its exit status.
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
    // The queue is empty and its reader exists, so this does not wait.
    let _ = inputs.send(ShellInput { input: Some(Input::Start(start)) }).await;

    // Enters raw mode only after the daemon accepted, so that a refusal is printed on a normal terminal.
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
                    // If the queue is full the daemon lags; the next resize sends the newest size.
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
            // If standard error is closed, the command continues.
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

/// Forwards standard input until its end, from a thread that is abandoned if the command exits first.
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

/// The collected output of a command, for `--json`.
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

/// Signals that end this process. On a raw terminal, Ctrl-C is a byte for the shell and not one of them.
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
