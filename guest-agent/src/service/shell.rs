//! rpc Shell: a program on a pseudo-terminal, or on pipes.
//!
//! One task reads the program's output, another passes the caller's input on. The program's exit status is sent last,
//! after all of its output.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};

use nix::errno::Errno;
use nix::libc::winsize;
use nix::pty::openpty;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rorqual_protocol::agent::shell_input::Input;
use rorqual_protocol::agent::shell_output::Output;
use rorqual_protocol::agent::{ShellInput, ShellOutput, ShellStart, TerminalSize};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, Interest};
use tokio::net::unix::pipe;
use tokio::sync::mpsc;
use tonic::{Status, Streaming};
use tracing::debug;

use crate::docker_api::DOCKER_SOCKET;
use crate::processes::{Processes, Running};
use crate::programs::command;
use crate::readiness;

/// The login shell of the guest.
const LOGIN_SHELL: [&str; 2] = ["/bin/bash", "--login"];
const SIMPLE_SHELL: [&str; 2] = ["/bin/sh", "-l"];

type Outputs = mpsc::Sender<Result<ShellOutput, Status>>;

/// Starts the program that `start` names and serves it in tasks of its own. Returns once it runs.
pub(super) fn open(
    processes: &Processes,
    start: &ShellStart,
    input: Streaming<ShellInput>,
    outputs: Outputs,
) -> Result<(), Status> {
    let command = program(start)?;
    let opened = if start.term.is_empty() {
        on_pipes(processes, command, input, outputs)
    } else {
        on_terminal(processes, command, start, input, outputs)
    };
    opened.map_err(|error| {
        Status::failed_precondition(format!("cannot start {} in the guest: {error}", start.command.join(" ")))
    })
}

/// The command, in the environment of a root login.
fn program(start: &ShellStart) -> Result<Command, Status> {
    let words: Vec<&str> = if !start.command.is_empty() {
        start.command.iter().map(String::as_str).collect()
    } else if std::path::Path::new(LOGIN_SHELL[0]).exists() {
        LOGIN_SHELL.to_vec()
    } else {
        SIMPLE_SHELL.to_vec()
    };
    let (name, arguments) =
        words.split_first().ok_or_else(|| Status::invalid_argument("the shell's command has no program"))?;
    let mut command = command(name);
    command.args(arguments).env("USER", "root").env("SHELL", LOGIN_SHELL[0]).current_dir("/root");
    command.env("DOCKER_HOST", format!("unix://{DOCKER_SOCKET}"));
    if !start.term.is_empty() {
        command.env("TERM", &start.term);
    }
    Ok(command)
}

fn on_terminal(
    processes: &Processes,
    mut command: Command,
    start: &ShellStart,
    input: Streaming<ShellInput>,
    outputs: Outputs,
) -> io::Result<()> {
    let pair = openpty(start.size.map(window).as_ref(), None)?;
    let terminal = File::from(pair.slave);
    command.stdin(terminal.try_clone()?).stdout(terminal.try_clone()?).stderr(terminal);
    // SAFETY: setsid and ioctl are async-signal-safe; descriptor 0 is the terminal by then.
    unsafe {
        command.pre_exec(|| {
            nix::unistd::setsid()?;
            match libc::ioctl(0, libc::TIOCSCTTY as _, 0) {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            }
        });
    }
    let process = processes.start(&mut command)?;
    // The command holds the terminal open, which would hide the end of the last program on it.
    drop(command);
    let flags = nix::fcntl::OFlag::O_NONBLOCK;
    nix::fcntl::fcntl(&pair.master, nix::fcntl::FcntlArg::F_SETFL(flags))?;
    let master = std::sync::Arc::new(readiness::watch(pair.master)?);

    let keyboard = std::sync::Arc::clone(&master);
    let group = process.pid;
    tokio::spawn(async move {
        let typed = type_input(&keyboard, input);
        if let Err(error) = typed.await {
            debug!("a shell's terminal takes no more input: {error}");
        }
        // The caller hung up, so the session gets SIGHUP, as from a lost terminal. Its leader's ID is its group's.
        let _ = kill(Pid::from_raw(-group.as_raw()), Signal::SIGHUP);
    });
    tokio::spawn(async move {
        let mut buffer = vec![0; 16 << 10];
        let mut exit = process.exit;
        // Programs left in the background hold the terminal, so the end of the shell ends the call.
        let status = loop {
            tokio::select! {
                biased;
                read = master.async_io(Interest::READABLE, |master| Ok(nix::unistd::read(master, &mut buffer)?)) => {
                    match read {
                        Ok(length) if length > 0 => {
                            let output = Output::Stdout(buffer[..length].to_vec());
                            if tell(&outputs, output).await.is_err() { return }
                        }
                        // EIO: no program has the terminal open any more.
                        _ => break (&mut exit).await,
                    }
                }
                status = &mut exit => break status,
                () = outputs.closed() => {
                    let _ = kill(Pid::from_raw(-group.as_raw()), Signal::SIGHUP);
                    return;
                }
            }
        };
        while let Ok(length @ 1..) = nix::unistd::read(master.get_ref(), &mut buffer) {
            if tell(&outputs, Output::Stdout(buffer[..length].to_vec())).await.is_err() {
                return;
            }
        }
        if let Ok(status) = status {
            let _ = tell(&outputs, Output::ExitStatus(exit_code(status))).await;
        }
    });
    Ok(())
}

/// Passes the caller's input to the terminal until it closes.
async fn type_input(master: &AsyncFd<OwnedFd>, mut input: Streaming<ShellInput>) -> io::Result<()> {
    while let Ok(Some(message)) = input.message().await {
        match message.input {
            Some(Input::Data(data)) => write_all(master, &data).await?,
            Some(Input::Resize(size)) => resize(master, size)?,
            Some(Input::Close(true)) => return Ok(()),
            Some(Input::Close(false) | Input::Start(_)) | None => {}
        }
    }
    Ok(())
}

async fn write_all(file: &AsyncFd<OwnedFd>, mut data: &[u8]) -> io::Result<()> {
    while !data.is_empty() {
        let written = file.async_io(Interest::WRITABLE, |file| Ok(nix::unistd::write(file, data)?)).await?;
        data = &data[written..];
    }
    Ok(())
}

nix::ioctl_write_ptr_bad! {
    /// `TIOCSWINSZ`: sets a terminal's size and notifies its programs.
    set_window_size, libc::TIOCSWINSZ, winsize
}

fn resize(master: &AsyncFd<OwnedFd>, size: TerminalSize) -> Result<(), Errno> {
    let window = window(size);
    // SAFETY: the descriptor is open, and the call reads one winsize, which `window` is.
    unsafe { set_window_size(master.get_ref().as_raw_fd(), &raw const window) }.map(drop)
}

fn window(size: TerminalSize) -> winsize {
    let cells = |count: u32| u16::try_from(count).unwrap_or(u16::MAX);
    winsize { ws_row: cells(size.rows), ws_col: cells(size.columns), ws_xpixel: 0, ws_ypixel: 0 }
}

fn on_pipes(
    processes: &Processes,
    mut command: Command,
    input: Streaming<ShellInput>,
    outputs: Outputs,
) -> io::Result<()> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let Running { pid, stdin, stdout, stderr, exit } = processes.start(&mut command)?;
    let (Some(stdin), Some(stdout), Some(stderr)) = (stdin, stdout, stderr) else {
        return Err(io::Error::other("the process has no pipes"));
    };
    let stdin = pipe::Sender::from_owned_fd(stdin.into())?;
    let stdout = pipe::Receiver::from_owned_fd(stdout.into())?;
    let stderr = pipe::Receiver::from_owned_fd(stderr.into())?;
    tokio::spawn(feed(stdin, input));
    tokio::spawn(async move {
        let all = async {
            tokio::try_join!(drain(stdout, &outputs, Output::Stdout), drain(stderr, &outputs, Output::Stderr))?;
            exit.await.map_err(io::Error::other)
        };
        tokio::select! {
            status = all => if let Ok(status) = status {
                let _ = tell(&outputs, Output::ExitStatus(exit_code(status))).await;
            },
            () = outputs.closed() => drop(kill(Pid::from_raw(-pid.as_raw()), Signal::SIGHUP)),
        }
    });
    Ok(())
}

/// Passes the caller's input to the program. The end of one ends the other.
async fn feed(stdin: pipe::Sender, mut input: Streaming<ShellInput>) {
    use tokio::io::AsyncWriteExt;

    let mut stdin = stdin;
    while let Ok(Some(message)) = input.message().await {
        match message.input {
            // The program takes no more input, or the caller has none.
            Some(Input::Data(data)) if stdin.write_all(&data).await.is_err() => return,
            Some(Input::Close(true)) => return,
            _ => {}
        }
    }
}

async fn drain(mut source: pipe::Receiver, outputs: &Outputs, kind: fn(Vec<u8>) -> Output) -> io::Result<()> {
    let mut buffer = vec![0; 16 << 10];
    loop {
        let length = source.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        tell(outputs, kind(buffer[..length].to_vec())).await?;
    }
}

async fn tell(outputs: &Outputs, output: Output) -> io::Result<()> {
    let message = ShellOutput { output: Some(output) };
    outputs.send(Ok(message)).await.map_err(|_| io::ErrorKind::BrokenPipe.into())
}

/// The exit status as a shell reports it.
fn exit_code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_by_signal_is_reported_as_by_a_shell() {
        assert_eq!(exit_code(ExitStatus::from_raw(7 << 8)), 7);
        assert_eq!(exit_code(ExitStatus::from_raw(9)), 137);
    }

    #[test]
    fn a_size_beyond_a_terminals_is_cut() {
        let size = window(TerminalSize { columns: 100_000, rows: 24 });
        assert_eq!((size.ws_col, size.ws_row), (u16::MAX, 24));
    }
}
