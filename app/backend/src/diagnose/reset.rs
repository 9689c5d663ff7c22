//! Performs a reset.
//!
//! A level that deletes a disk first ends the machine and the daemon, and holds the daemon's locks until it is done. No
//! process can then start a machine from files that are being deleted.

use std::{fs, io, path::Path, sync::Arc, time::Duration};

use nix::fcntl::{Flock, FlockArg};
use rorqual_engine::{api, client, docker::Query, home::Home};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    Inner,
    contract::{Failure, Milliseconds, Reset, ResetLevel, Step},
    failure, machine, size,
    stream::Channel,
};

/// The word to type before data is deleted.
const CONFIRMATION: &str = "delete";
/// How long the daemon may take to exit; after this the user must intervene.
const DAEMON_ENDS: Duration = Duration::from_secs(30);

pub(crate) async fn reset(inner: Arc<Inner>, asked: Reset, channel: Channel) -> Result<(), Failure> {
    let deletes_data = matches!(asked.level, ResetLevel::Data | ResetLevel::Factory);
    if deletes_data && asked.confirmation != CONFIRMATION {
        return Err(failure::advised!(
            "not-confirmed",
            "nothing was deleted: the confirmation is not the word \"delete\"",
            "review what will be deleted, then type \"delete\"",
        ));
    }
    match asked.level {
        ResetLevel::Restart => {
            inner.daemon_started().await?;
            machine::restart_by(&inner, "", &channel).await
        }
        ResetLevel::Prune => prune(&inner, &channel).await,
        ResetLevel::Data => {
            delete(&inner, false, &channel).await?;
            machine::start_by(&inner, "", true, &channel).await
        }
        ResetLevel::Factory => delete(&inner, true, &channel).await,
    }
}

/// Reports a step before and after it runs.
async fn step<T, E: Into<Failure>>(
    channel: &Channel,
    name: &str,
    message: &str,
    doing: impl Future<Output = Result<T, E>>,
) -> Result<T, Failure> {
    let begin = Instant::now();
    let told = |message: String, took| Step { step: name.to_owned(), message, took };
    channel.event(&told(message.to_owned(), None)).await?;
    let result = doing.await.map_err(Into::into)?;
    let took = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
    channel.event(&told(message.to_owned(), Some(Milliseconds(took)))).await?;
    Ok(result)
}

async fn prune(inner: &Inner, channel: &Channel) -> Result<(), Failure> {
    let every_image = Query::new("/images/prune", &[]).filters(&json!({"dangling": ["false"]}));
    // Containers first, so that what they used counts as unused.
    let steps = [
        ("containers", "Removing stopped containers", Query::new("/containers/prune", &[])),
        ("networks", "Removing unused networks", Query::new("/networks/prune", &[])),
        ("images", "Removing unused images", every_image),
        ("volumes", "Removing unused anonymous volumes", Query::new("/volumes/prune", &[])),
        ("cache", "Removing build cache", Query::new("/build/prune", &[]).with("all", "true")),
    ];
    let mut reclaimed = 0;
    for (name, message, query) in steps {
        let answer: Value = step(channel, name, message, inner.docker.post(&query, &json!({}))).await?;
        reclaimed += answer["SpaceReclaimed"].as_u64().unwrap_or(0);
    }
    let message = format!("Reclaimed {}", size::bytes(reclaimed));
    channel.event(&Step { step: "done".to_owned(), message, took: Some(Milliseconds(0)) }).await
}

/// Ends everything, then deletes the machines' disks, or everything Rorqual stores.
async fn delete(inner: &Inner, everything: bool, channel: &Channel) -> Result<(), Failure> {
    step(channel, "machine", "Stopping the machine", end_machines(inner)).await?;
    let _locks = step(channel, "daemon", "Stopping the daemon", end_daemon(&inner.home)).await?;
    let home = inner.home.clone();
    let message = if everything { "Deleting everything Rorqual stores" } else { "Deleting the machine's disk" };
    let deleting = async move {
        let deleted =
            tokio::task::spawn_blocking(move || if everything { delete_all(&home) } else { delete_disks(&home) });
        deleted.await.map_err(|error| failure::unexpected(error.to_string()))?
    };
    step(channel, "delete", message, deleting).await
}

/// Kills every machine: its disk is deleted anyway, and a machine that hangs must not block the reset.
async fn end_machines(inner: &Inner) -> Result<(), Failure> {
    // A starting daemon adopts machines that survived the previous one.
    let Ok(mut client) = inner.daemon_started().await else {
        // The daemon cannot start, for instance because of damaged settings; a running machine still has its socket.
        return no_machine_runs(&inner.home);
    };
    for name in inner.home.machines()? {
        let request = api::StopRequest { machine: name.to_string(), force: true, timeout_seconds: 0 };
        let mut steps = client.stop(request).await?.into_inner();
        while steps.message().await?.is_some() {}
    }
    client.quit(api::QuitRequest { stop_machines: true }).await?;
    Ok(())
}

fn no_machine_runs(home: &Home) -> Result<(), Failure> {
    for name in home.machines()? {
        if std::os::unix::net::UnixStream::connect(home.machine(&name).control_socket()).is_ok() {
            return Err(failure::advised!(
                "machine-running",
                format!("machine {name} is running, and the daemon that could stop it does not start"),
                "correct the problem shown in the daemon's log on the Diagnose page, then try again",
            ));
        }
    }
    Ok(())
}

/// Waits for the daemon to exit. While the result is held, no daemon can start.
async fn end_daemon(home: &Home) -> Result<(Flock<fs::File>, Option<Flock<fs::File>>), Failure> {
    let turn = client::lock_start(home).await?;
    let lock = home.daemon_lock();
    let ended = tokio::task::spawn_blocking(move || match fs::File::open(&lock) {
        // The daemon holds this lock for its whole life.
        Ok(file) => Flock::lock(file, FlockArg::LockExclusive).map(Some).map_err(|(_, errno)| io::Error::from(errno)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    });
    match tokio::time::timeout(DAEMON_ENDS, ended).await {
        Ok(Ok(Ok(daemon))) => Ok((turn, daemon)),
        Ok(Ok(Err(error))) => Err(failure::unexpected(format!("the daemon's lock cannot be read: {error}"))),
        Ok(Err(error)) => Err(failure::unexpected(error.to_string())),
        Err(_) => Err(failure::advised!(
            "daemon-does-not-end",
            "nothing was deleted: the daemon did not exit",
            "kill the process `rorqual daemon`, then try again",
        )),
    }
}

fn remove(path: &Path) -> Result<(), Failure> {
    let removed = match path.symlink_metadata() {
        // Removes a link itself, never its target.
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failure::advised!(
            "state-unwritable",
            format!("cannot delete {}: {error}", path.display()),
            "correct its permissions, then try again",
        )),
        Ok(()) => Ok(()),
    }
}

fn delete_disks(home: &Home) -> Result<(), Failure> {
    for name in home.machines()? {
        let paths = home.machine(&name);
        // The saved state first: it must never be resumed with a new disk.
        remove(&paths.snapshot())?;
        remove(&paths.data_disk())?;
    }
    Ok(())
}

/// Deletes only what Rorqual created: `RORQUAL_HOME` may be a directory with other content.
fn delete_all(home: &Home) -> Result<(), Failure> {
    let own =
        ["machines", "images", "bin", "run", "builds", "https", "config.toml", "config.toml.new", "first-run-finished"];
    for name in own {
        remove(&home.root().join(name))?;
    }
    // As at the first start, so that what runs on finds its place.
    Home::at(home.root())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rorqual_engine::home::MachineName;

    fn home() -> (tempfile::TempDir, Home) {
        let parent = tempfile::tempdir().unwrap();
        let home = Home::at(parent.path().join("h")).unwrap();
        let paths = home.create_machine(&MachineName::default()).unwrap();
        fs::create_dir(paths.snapshot()).unwrap();
        for file in [paths.data_disk(), paths.settings(), home.config_file(), home.root().join("letter.txt")] {
            fs::write(file, "x").unwrap();
        }
        (parent, home)
    }

    #[test]
    fn deleting_disks_keeps_settings() {
        let (_parent, home) = home();
        let paths = home.machine(&MachineName::default());
        delete_disks(&home).unwrap();
        assert!(!paths.data_disk().exists() && !paths.snapshot().exists());
        assert!(paths.settings().exists() && home.config_file().exists());
    }

    #[test]
    fn deleting_all_leaves_what_is_not_rorquals_and_what_links_lead_to() {
        let (parent, home) = home();
        let outside = parent.path().join("docker");
        fs::write(&outside, "").unwrap();
        std::os::unix::fs::symlink(&outside, home.bin_directory().join("docker")).unwrap();
        delete_all(&home).unwrap();
        assert!(outside.exists() && home.root().join("letter.txt").exists());
        assert!(!home.config_file().exists() && home.machines().unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_daemons_end_is_waited_for() {
        let (_parent, home) = home();
        let file = fs::File::create(home.daemon_lock()).unwrap();
        let held = Flock::lock(file, FlockArg::LockExclusive).unwrap();
        let waiting = tokio::spawn({
            let home = home.clone();
            async move { end_daemon(&home).await.map(drop) }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(held);
        waiting.await.unwrap().unwrap();
    }
}
