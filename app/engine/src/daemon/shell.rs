//! A shell in the guest. The messages of the caller and the agent have the same shape and are forwarded one to one.

use futures_util::{Stream, StreamExt, stream};
use rorqual_protocol::agent;
use tonic::{Status, Streaming};

use super::request::RequestError;
use crate::{api, error::to_status};

/// The first message, which names the machine.
pub(super) async fn first(input: &mut Streaming<api::ShellInput>) -> Result<api::ShellStart, Status> {
    match input.message().await? {
        Some(api::ShellInput { input: Some(api::shell_input::Input::Start(start)) }) => Ok(start),
        _ => Err(to_status(&RequestError::ShellNotStarted)),
    }
}

/// Forwards the messages of one shell.
pub(super) async fn run(
    mut agent: crate::machine::guest::Agent,
    start: api::ShellStart,
    input: Streaming<api::ShellInput>,
) -> Result<impl Stream<Item = Result<api::ShellOutput, Status>> + Send + use<>, Status> {
    use agent::shell_input::Input;
    let start = agent::ShellStart { command: start.command, term: start.term, size: start.size.map(size) };
    // The input ends when its caller leaves, and the agent then ends the shell.
    let rest = input.take_while(|message| std::future::ready(message.is_ok())).filter_map(|message| async move {
        Some(match message.ok()?.input? {
            api::shell_input::Input::Data(data) => Input::Data(data),
            api::shell_input::Input::Resize(new) => Input::Resize(size(new)),
            api::shell_input::Input::Close(close) => Input::Close(close),
            api::shell_input::Input::Start(_) => return None,
        })
    });
    let inputs = stream::once(std::future::ready(Input::Start(start))).chain(rest);
    let inputs = inputs.map(|input| agent::ShellInput { input: Some(input) });
    let failed = |status: Status| to_status(&RequestError::of_guest(&status));
    let outputs = agent.shell(inputs).await.map_err(failed)?.into_inner();
    Ok(outputs.map(move |output| {
        output.map(|output| api::ShellOutput { output: output.output.map(convert) }).map_err(failed)
    }))
}

fn size(size: api::TerminalSize) -> agent::TerminalSize {
    agent::TerminalSize { columns: size.columns, rows: size.rows }
}

fn convert(output: agent::shell_output::Output) -> api::shell_output::Output {
    use agent::shell_output::Output;
    match output {
        Output::Stdout(data) => api::shell_output::Output::Stdout(data),
        Output::Stderr(data) => api::shell_output::Output::Stderr(data),
        Output::ExitStatus(status) => api::shell_output::Output::ExitStatus(status),
    }
}
