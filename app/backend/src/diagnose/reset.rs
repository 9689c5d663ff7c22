//! Carrying a reset out.
//!
//! What deletes a disk first ends the machine and the daemon, and holds the daemon's locks until it is done: nobody can
//! start a machine from what is being deleted.

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

/// What must be typed before data is deleted.
const CONFIRMATION: &str = "delete";
/// A daemon that was told to end is gone within this; else somebody must look.
const DAEMON_ENDS: Duration = Duration::from_secs(30);

pub(crate) async fn reset(inner: Arc<Inner>, asked: Reset, channel: Channel) -> Result<(), Failure> {
    let deletes_data = matches!(asked.level, ResetLevel::Data | ResetLevel::Factory);
    if deletes_data && asked.confirmation != CONFIRMATION {
        return Err(failure::coded(
            "not-confirmed",
            "nothing was deleted, because the confirmation is not the word \"delete\"",
            "read what is deleted, then type the word",
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

/// Tells of a step before and after it.
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
    // Containers first: what they used is unused then.
    let steps = [
        ("containers", "Removing stopped containers", Query::new("/containers/prune", &[])),
        ("networks", "Removing networks nobody is in", Query::new("/networks/prune", &[])),
        ("images", "Removing images no container uses", every_image),
        ("volumes", "Removing volumes without a name that nobody uses", Query::new("/volumes/prune", &[])),
        ("cache", "Removing build cache", Query::new("/build/prune", &[]).with("all", "true")),
    ];
    let mut reclaimed = 0;
    for (name, message, query) in steps {
        let answer: Value = step(channel, name, message, inner.docker.post(&query, &json!({}))).await?;
        reclaimed += answer["SpaceReclaimed"].as_u64().unwrap_or(0);
    }
    let message = format!("{} are free again", size::bytes(reclaimed));
    channel.event(&Step { step: "done".to_owned(), message, took: Some(Milliseconds(0)) }).await
}

/// Ends everything and deletes: the machines' disks, or all there is.
async fn delete(inner: &Inner, everything: bool, channel: &Channel) -> Result<(), Failure> {
    step(channel, "machine", "Ending the machine", end_machines(inner)).await?;
    let _locks = step(channel, "daemon", "Ending the daemon", end_daemon(&inner.home)).await?;
    let home = inner.home.clone();
    let message = if everything { "Deleting all that Rorqual keeps" } else { "Deleting the machine's disk" };
    let deleting = async move {
        let deleted =
            tokio::task::spawn_blocking(move || if everything { delete_all(&home) } else { delete_disks(&home) });
        deleted.await.map_err(|error| failure::unexpected(error.to_string()))?
    };
    step(channel, "delete", message, deleting).await
}

/// Ends every machine at once: what is on its disk goes anyway, and a machine that hangs must not keep it.
async fn end_machines(inner: &Inner) -> Result<(), Failure> {
    // A daemon finds machines that run without one.
    let Ok(mut client) = inner.daemon_started().await else {
        // It cannot start, of damaged settings say: a machine that runs nevertheless is seen there.
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
            return Err(failure::coded(
                "machine-running",
                format!("machine {name} runs, and the daemon that could end it does not start"),
                "read the daemon's log in Diagnose, correct what it names, then try again",
            ));
        }
    }
    Ok(())
}

/// Waits for the daemon's end; while the result is held none can start, by whomever.
async fn end_daemon(home: &Home) -> Result<(Flock<fs::File>, Option<Flock<fs::File>>), Failure> {
    let turn = client::lock_start(home).await?;
    let lock = home.daemon_lock();
    let ended = tokio::task::spawn_blocking(move || match fs::File::open(&lock) {
        // The daemon holds this for as long as it lives.
        Ok(file) => Flock::lock(file, FlockArg::LockExclusive).map(Some).map_err(|(_, errno)| io::Error::from(errno)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    });
    match tokio::time::timeout(DAEMON_ENDS, ended).await {
        Ok(Ok(Ok(daemon))) => Ok((turn, daemon)),
        Ok(Ok(Err(error))) => Err(failure::unexpected(format!("the daemon's lock cannot be read: {error}"))),
        Ok(Err(error)) => Err(failure::unexpected(error.to_string())),
        Err(_) => Err(failure::coded(
            "daemon-does-not-end",
            "nothing was deleted: the daemon was told to end and still runs",
            "end the process `rorqual daemon` by hand, then try again",
        )),
    }
}

fn remove(path: &Path) -> Result<(), Failure> {
    let removed = match path.symlink_metadata() {
        // A link is removed, never what it leads to.
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failure::coded(
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
        // The saved state first: it must never meet a new disk.
        remove(&paths.snapshot())?;
        remove(&paths.data_disk())?;
    }
    Ok(())
}

/// Deletes what Rorqual put there and nothing else: `RORQUAL_HOME` may be a directory with more in it.
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
