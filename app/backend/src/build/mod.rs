//! Builds by BuildKit, through Docker's own client (buildx), which sends the folder and reports progress as JSON.

mod history;
mod progress;

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use history::{History, Outputs};
use progress::{Progress, Told};
use rorqual_engine::docker::Query;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::Command,
};

use super::{
    Inner,
    contract::{
        BuildDetail, BuildEvent, BuildOutcome, BuildRecord, BuildRun, BuildTarget, Bytes, Empty, Failure, Milliseconds,
        Pruned, Timestamp,
    },
    failure, registries,
    stream::Channel,
};

/// Maximum size of a Dockerfile that is shown.
const LONGEST_DOCKERFILE: u64 = 1 << 20;
/// Maximum length of a line of the client, which holds output in base64.
const LONGEST_LINE: u64 = 8 << 20;

pub(super) async fn history(inner: &Arc<Inner>, _: Empty) -> Result<Vec<BuildRecord>, Failure> {
    let history = History::of(&inner.home);
    blocking(move || Ok(history.all()?.into_iter().map(|build| build.record).collect())).await
}

pub(super) async fn inspect(inner: &Arc<Inner>, target: BuildTarget) -> Result<BuildDetail, Failure> {
    let history = History::of(&inner.home);
    blocking(move || history.read(&target.id)).await
}

pub(super) async fn remove(inner: &Arc<Inner>, target: BuildTarget) -> Result<Empty, Failure> {
    let history = History::of(&inner.home);
    blocking(move || history.remove(&target.id).map(|()| Empty {})).await
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Failure> + Send + 'static) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.map_err(|error| failure::unexpected(error.to_string()))?
}

pub(super) async fn prune_cache(inner: &Arc<Inner>, _: Empty) -> Result<Pruned, Failure> {
    let answer: Value = inner.docker.post(&Query::new("/build/prune", &[]).with("all", "true"), &json!({})).await?;
    let removed = answer["CachesDeleted"].as_array().into_iter().flatten();
    Ok(Pruned {
        removed: removed.filter_map(|id| id.as_str().map(str::to_owned)).collect(),
        reclaimed: Bytes(answer["SpaceReclaimed"].as_u64().unwrap_or(0)),
    })
}

/// A running build. Every build enters the history; one dropped before its end counts as cancelled.
struct Running {
    history: History,
    id: String,
    request: BuildRun,
    dockerfile: String,
    started: Timestamp,
    begin: Instant,
    progress: Progress,
    outputs: Outputs,
    over: bool,
}

impl Running {
    fn new(history: History, request: BuildRun, dockerfile: String) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let started = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
        Self {
            history,
            // Two builds may start in the same millisecond.
            id: format!("{started:013}-{:09}", now.subsec_nanos()),
            request,
            dockerfile,
            started: Timestamp(started),
            begin: Instant::now(),
            progress: Progress::default(),
            outputs: Outputs::default(),
            over: false,
        }
    }

    fn end(&mut self, outcome: BuildOutcome) -> Result<BuildRecord, Failure> {
        self.over = true;
        let record = BuildRecord {
            id: self.id.clone(),
            request: self.request.clone(),
            started: self.started,
            took: Milliseconds(u64::try_from(self.begin.elapsed().as_millis()).unwrap_or(u64::MAX)),
            outcome,
            steps: self.progress.steps(true),
        };
        let outputs = self.outputs.take();
        let detail = BuildDetail { record, outputs, dockerfile: std::mem::take(&mut self.dockerfile) };
        self.history.add(&detail)?;
        Ok(detail.record)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.over
            && let Err(failure) = self.end(BuildOutcome::Canceled)
        {
            tracing::warn!("cannot add a cancelled build to the history: {}", failure.message);
        }
    }
}

/// Docker's BuildKit client: from the state directory, the guest image, or the system.
fn client(inner: &Inner) -> Result<PathBuf, Failure> {
    let beside = registries::client_program(inner).parent().map(Path::to_path_buf);
    let own = inner.home.bin_directory();
    let plugins = registries::config_directory().ok().map(|directory| directory.join("cli-plugins"));
    let system =
        ["/usr/local/lib/docker/cli-plugins", "/usr/libexec/docker/cli-plugins", "/usr/lib/docker/cli-plugins"];
    let mut places = [Some(own), beside, plugins].into_iter().flatten().chain(system.map(PathBuf::from));
    places.find_map(|place| Some(place.join("docker-buildx")).filter(|program| program.is_file())).ok_or_else(|| {
        failure::advised!(
            "docker-client-missing",
            "docker-buildx, Docker's build client, is missing",
            "install Rorqual again, or install Docker's buildx plugin",
        )
    })
}

fn command(inner: &Inner, asked: &BuildRun, dockerfile: &Path, result: &Path) -> Result<Command, Failure> {
    let mut command = Command::new(client(inner)?);
    command.args(["build", "--progress=rawjson", "--builder=default", "--iidfile"]).arg(result);
    command.arg("--file").arg(dockerfile);
    for tag in &asked.tags {
        command.args(["--tag", tag]);
    }
    for argument in &asked.arguments {
        command.arg("--build-arg").arg(format!("{}={}", argument.name, argument.value));
    }
    if let Some(target) = &asked.target {
        command.args(["--target", target]);
    }
    if asked.no_cache {
        command.arg("--no-cache");
    }
    if asked.pull {
        command.arg("--pull");
    }
    command.arg(&asked.folder);
    for elsewhere in ["DOCKER_CONTEXT", "BUILDX_BUILDER", "BUILDKIT_PROGRESS", "BUILDKIT_HOST"] {
        command.env_remove(elsewhere);
    }
    command.env("DOCKER_HOST", format!("unix://{}", inner.home.docker_socket().display()));
    // Ending the client cancels the build: BuildKit loses the session it belongs to.
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    Ok(command)
}

async fn read_dockerfile(path: &Path) -> Result<String, Failure> {
    let read = async {
        let mut content = Vec::new();
        tokio::fs::File::open(path).await?.take(LONGEST_DOCKERFILE).read_to_end(&mut content).await?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&content).into_owned())
    };
    read.await.map_err(|error| {
        failure::advised!(
            "dockerfile-unreadable",
            format!("cannot read {}: {error}", path.display()),
            "choose a folder with a Dockerfile, or enter the file's name",
        )
    })
}

pub(super) async fn run(inner: Arc<Inner>, asked: BuildRun, channel: Channel) -> Result<(), Failure> {
    let folder = PathBuf::from(&asked.folder);
    if !folder.is_absolute() {
        return Err(failure::bad_request(format!("{} is not the absolute path of a folder", asked.folder)));
    }
    let dockerfile = folder.join(asked.dockerfile.as_deref().unwrap_or("Dockerfile"));
    let text = read_dockerfile(&dockerfile).await?;
    // A stopped machine is reported as such, not as a failed build.
    inner.docker.get::<Value>(&Query::new("/version", &[])).await?;
    let mut running = Running::new(History::of(&inner.home), asked, text.clone());
    let result = inner.home.run_directory().join(format!("build-{}.id", running.id));
    let _result = Removed(result.clone());
    let mut child = command(&inner, &running.request, &dockerfile, &result)?.spawn().map_err(|error| {
        failure::advised!(
            "docker-client-missing",
            format!("cannot run docker-buildx: {error}"),
            "install Rorqual again"
        )
    })?;
    let stderr = child.stderr.take().ok_or_else(|| failure::unexpected("docker-buildx has no standard error"))?;
    let mut lines = BufReader::new(stderr);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = (&mut lines).take(LONGEST_LINE).read_until(b'\n', &mut line).await;
        if read.map_err(|error| failure::unexpected(format!("docker-buildx cannot be read: {error}")))? == 0 {
            break;
        }
        for told in running.progress.take(String::from_utf8_lossy(&line).trim_end()) {
            let event = match told {
                Told::Step(step) => BuildEvent::Step { step },
                Told::Output { id, text } => {
                    running.outputs.add(&id, &text);
                    BuildEvent::Output { id, text }
                }
            };
            channel.event(&event).await?;
        }
    }
    let status = child.wait().await.map_err(|error| failure::unexpected(error.to_string()))?;
    let outcome = if status.success() {
        let image = tokio::fs::read_to_string(&result).await.unwrap_or_default();
        BuildOutcome::Succeeded { image: image.trim().to_owned() }
    } else {
        let fault = running.progress.fault();
        BuildOutcome::Failed { message: fault.message, line: fault.line, dockerfile: Some(text) }
    };
    let record = running.end(outcome)?;
    channel.event(&BuildEvent::Finished { record }).await
}

/// A file removed on drop.
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        // The file exists only after a successful build.
        std::fs::remove_file(&self.0).ok();
    }
}
