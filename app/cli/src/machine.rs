//! `rorqual start`, `stop`, `restart` and `status`.

use rorqual_engine::{
    api::{MachineStatus, Progress, StartRequest, StatusRequest, StopRequest, SuspendRequest, machine_status::State},
    client::{Client, ClientError},
};
use tonic::Streaming;

use crate::{
    arguments::{RestartOptions, StartOptions, StopOptions},
    context,
    error::CommandError,
    exit::Exit,
    failure::Failure,
    interrupt::Interrupt,
    progress::Display,
    session::{self, Session},
    units,
    view::{self, MachineView},
};

/// The end of a stream of progress messages.
enum Outcome {
    Done { total_ms: u64, machine: Box<MachineStatus> },
    Interrupted,
}

pub(crate) async fn start(session: &Session, options: &StartOptions) -> Result<(), Failure> {
    let mut client = session.daemon().await?;
    start_with(session, &mut client, options).await
}

async fn start_with(session: &Session, client: &mut Client, options: &StartOptions) -> Result<(), Failure> {
    let mut interrupt = Interrupt::listen()?;
    let mut display = Display::new(session);
    display.say(&format!("Starting machine {}", session.machine));
    let request = StartRequest {
        machine: session.machine(),
        accelerator: options.accelerator.map(|accelerator| accelerator.name().to_owned()).unwrap_or_default(),
        cold: options.cold,
    };
    let steps = tokio::select! {
        steps = client.start(request) => steps?.into_inner(),
        () = interrupt.caught() => return cancel_start(session, client, &mut display, &mut interrupt).await,
    };
    match follow(steps, &mut display, &mut interrupt).await? {
        Outcome::Interrupted => cancel_start(session, client, &mut display, &mut interrupt).await,
        Outcome::Done { total_ms, machine } => {
            let proxies = context::proxies(client).await;
            context::ensure_after_start(session, &machine, proxies);
            if !session.json && !session.quiet {
                session::print_text(&format!(
                    "Machine {} is {} ({}).\n",
                    machine.name,
                    ready_words(&machine, total_ms),
                    machine.accelerator
                ))?;
            }
            Ok(())
        }
    }
}

/// Stops what a cancelled start has started so far. A second Ctrl-C stops waiting.
async fn cancel_start(
    session: &Session,
    client: &mut Client,
    display: &mut Display,
    interrupt: &mut Interrupt,
) -> Result<(), Failure> {
    display.fail();
    display.say("Cancelled; stopping the machine");
    let request = StopRequest { machine: session.machine(), force: false, timeout_seconds: 0 };
    let stopped = async {
        let steps = client.stop(request).await?.into_inner();
        follow(steps, display, interrupt).await
    };
    let cancelled = match stopped.await {
        Ok(Outcome::Done { .. }) => CommandError::StartCancelled,
        Ok(Outcome::Interrupted) => CommandError::StartCancelledStopping,
        Err(failure) => {
            let reason = failure.shown.map(|failure| failure.message).unwrap_or_default();
            CommandError::StartCancelledStopFailed(reason)
        }
    };
    Err(cancelled.into())
}

pub(crate) async fn stop(session: &Session, options: &StopOptions) -> Result<(), Failure> {
    let mut client = session.daemon().await?;
    stop_with(session, &mut client, options).await
}

async fn stop_with(session: &Session, client: &mut Client, options: &StopOptions) -> Result<(), Failure> {
    let mut interrupt = Interrupt::listen()?;
    let mut display = Display::new(session);
    display.say(&format!("Stopping machine {}", session.machine));
    let request = StopRequest { machine: session.machine(), force: options.force, timeout_seconds: options.timeout };
    let steps = client.stop(request).await?.into_inner();
    if end(session, steps, &mut display, &mut interrupt, |time| format!("stopped ({time}).")).await? {
        return Ok(());
    }
    Err(CommandError::StopNotAwaited.into())
}

pub(crate) async fn suspend(session: &Session) -> Result<(), Failure> {
    let mut client = session.daemon().await?;
    let mut interrupt = Interrupt::listen()?;
    let mut display = Display::new(session);
    display.say(&format!("Suspending machine {}", session.machine));
    let steps = client.suspend(SuspendRequest { machine: session.machine() }).await?.into_inner();
    let words = |time| format!("suspended ({time}). To resume it, run: rorqual start");
    if end(session, steps, &mut display, &mut interrupt, words).await? {
        return Ok(());
    }
    // A start cancels the suspension, or resumes the machine if it was saved already.
    let request = StartRequest { machine: session.machine(), accelerator: String::new(), cold: false };
    let steps = client.start(request).await?.into_inner();
    follow(steps, &mut display, &mut interrupt).await?;
    Err(CommandError::SuspendCancelled.into())
}

/// Follows the steps of stopping or suspending and prints the outcome; `words` formats it, given the duration. Returns
/// false on Ctrl-C.
async fn end(
    session: &Session,
    steps: Streaming<Progress>,
    display: &mut Display,
    interrupt: &mut Interrupt,
    words: impl FnOnce(String) -> String,
) -> Result<bool, Failure> {
    match follow(steps, display, interrupt).await? {
        Outcome::Done { total_ms, machine } => {
            if !session.json && !session.quiet {
                let words = words(units::milliseconds(total_ms));
                session::print_text(&format!("Machine {} is {words}\n", machine.name))?;
            }
            Ok(true)
        }
        Outcome::Interrupted => {
            display.fail();
            Ok(false)
        }
    }
}

pub(crate) async fn restart(session: &Session, options: &RestartOptions) -> Result<(), Failure> {
    let mut client = session.daemon().await?;
    stop_with(session, &mut client, &options.stop).await?;
    start_with(session, &mut client, &options.start).await
}

pub(crate) async fn status(session: &Session, watch: bool) -> Result<(), Failure> {
    let mut client = session.daemon().await?;
    let request = StatusRequest { machine: session.machine() };
    if !watch {
        let machine = client.status(request).await?.into_inner().machine.unwrap_or_default();
        print_status(session, &machine)?;
        return match machine.state() {
            State::Running | State::Degraded | State::Starting | State::Stopping | State::Suspending => Ok(()),
            // People read the state in the table; scripts check the exit status.
            _ => Err(Failure::silent(Exit::NotRunning)),
        };
    }
    let mut interrupt = Interrupt::listen()?;
    let mut changes = client.watch_status(request).await?.into_inner();
    loop {
        let change = tokio::select! {
            change = changes.message() => change?,
            () = interrupt.caught() => return Ok(()),
        };
        let Some(change) = change else { return Ok(()) };
        print_status(session, &change.machine.unwrap_or_default())?;
        if !session.json {
            session::print_text("\n")?;
        }
    }
}

fn print_status(session: &Session, machine: &MachineStatus) -> Result<(), Failure> {
    if session.json {
        session::print_json(&MachineView::from(machine.clone()))
    } else {
        session::print_text(&view::table(machine))
    }
}

/// Shows progress until the last message or Ctrl-C.
async fn follow(
    mut steps: Streaming<Progress>,
    display: &mut Display,
    interrupt: &mut Interrupt,
) -> Result<Outcome, Failure> {
    let mut last = None;
    loop {
        let message = tokio::select! {
            message = steps.message() => message,
            () = interrupt.caught() => return Ok(Outcome::Interrupted),
        };
        match message {
            Ok(Some(progress)) => {
                display.show(&progress)?;
                last = progress.done.or(last);
            }
            Ok(None) => break,
            Err(status) => {
                display.fail();
                return Err(status.into());
            }
        }
    }
    let Some(done) = last else {
        display.fail();
        return Err(ClientError::Lost("its response ended early".to_owned()).into());
    };
    Ok(Outcome::Done { total_ms: done.total_ms, machine: Box::new(done.machine.unwrap_or_default()) })
}

fn ready_words(machine: &MachineStatus, total_ms: u64) -> String {
    match machine.state() {
        State::Running if total_ms == 0 => "running".to_owned(),
        State::Running => format!("ready after {}", units::milliseconds(total_ms)),
        state => format!("{}: {}", view::state_name(state), machine.message),
    }
}
