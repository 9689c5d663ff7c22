//! A terminal in a running container: an exec with its own pseudo-terminal.

use std::sync::Arc;

use bytes::Bytes;
use rorqual_engine::docker::Query;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    Inner,
    contract::{ContainerTerminal, Failure, TerminalEvent, TerminalInput, TerminalSize},
    failure,
    stream::{Channel, Input, parse},
};

/// Runs the best shell the container has.
const FIND_SHELL: &str =
    "for shell in bash zsh ash; do command -v $shell >/dev/null 2>&1 && exec $shell; done; exec /bin/sh";
/// Maximum number of bytes in one event.
const PIECE: usize = 32 << 10;

pub(super) async fn terminal(inner: Arc<Inner>, asked: ContainerTerminal, mut channel: Channel) -> Result<(), Failure> {
    let found = asked.command.is_none();
    let command = asked.command.unwrap_or_else(|| ["/bin/sh", "-c", FIND_SHELL].map(str::to_owned).into());
    let exec: Value = inner
        .docker
        .post(
            &Query::new("/containers/{}/exec", &[&asked.id]),
            &json!({
                "AttachStdin": true, "AttachStdout": true, "AttachStderr": true, "Tty": true,
                "Cmd": command, "User": asked.user.unwrap_or_default(),
                "Env": ["TERM=xterm-256color"], "ConsoleSize": [asked.size.rows, asked.size.columns],
            }),
        )
        .await?;
    let id = exec["Id"]
        .as_str()
        .ok_or_else(|| failure::unexpected("the engine returned no identifier for the terminal".to_owned()))?
        .to_owned();
    let start = json!({"Detach": false, "Tty": true, "ConsoleSize": [asked.size.rows, asked.size.columns]});
    let connection = inner.docker.hijack(&Query::new("/exec/{}/start", &[&id]), &start).await?;
    channel.event(&TerminalEvent::Started { command }).await?;
    let (mut reader, mut writer) = tokio::io::split(connection);
    let mut inputs = channel.take_inputs();
    // Runs in its own task: output may wait for a slow page, and Ctrl-C must still get through.
    let typing = async {
        while let Some(input) = inputs.recv().await {
            match input {
                // A shell that exited takes no more input; its end is read below.
                Input::Bytes(bytes) => drop(writer.write_all(&bytes).await),
                Input::Value(value) => {
                    let TerminalInput::Resize { size } = parse(value)?;
                    // Fails harmlessly for a shell that just exited.
                    resize(&inner, &id, size).await.ok();
                }
            }
        }
        Err::<std::convert::Infallible, _>(failure::canceled())
    };
    let saying = async {
        let mut buffer = vec![0; PIECE];
        let mut said = 0;
        while let Ok(count @ 1..) = reader.read(&mut buffer).await {
            said += count;
            channel.bytes(Bytes::copy_from_slice(&buffer[..count])).await?;
        }
        Ok::<_, Failure>(said)
    };
    let said = tokio::select! {
        said = saying => said?,
        Err(failure) = typing => return Err(failure),
    };
    let ended: Value = inner.docker.get(&Query::new("/exec/{}/json", &[&id])).await?;
    let status = ended["ExitCode"].as_i64().and_then(|status| i32::try_from(status).ok()).unwrap_or(0);
    if found && said < 512 && matches!(status, 126..=128) {
        return Err(failure::advised!(
            "no-shell",
            "this container has no shell",
            "use the container's files, log and processes instead",
        ));
    }
    channel.event(&TerminalEvent::Exited { status }).await
}

async fn resize(inner: &Inner, id: &str, size: TerminalSize) -> Result<(), Failure> {
    let query =
        Query::new("/exec/{}/resize", &[id]).with("h", &size.rows.to_string()).with("w", &size.columns.to_string());
    Ok(inner.docker.act(&query, None).await?)
}
