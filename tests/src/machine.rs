//! A machine for a suite: state directory, docker configuration, start, stop.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::{
    command::{self, Execution, Run},
    processes,
    wait::within,
};

/// Variables of the developer's shell that would point a docker client elsewhere.
const DOCKER_VARIABLES: [&str; 6] =
    ["DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_BUILDKIT", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "DOCKER_API_VERSION"];

/// Every state directory of this process that may have processes, to clean up after an interrupted run.
static HOMES: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Ends every machine of this process at once and removes its state directory, even while tests use it.
pub(crate) fn stop_all() {
    command::refuse_all();
    for home in HOMES.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
        for process in processes::of_home(&home) {
            process.kill();
        }
        // A process that is exiting may still write there.
        within(Duration::from_secs(5), || fs::remove_dir_all(&home).ok());
    }
}

/// A machine named `default` in a state directory of its own. Dropping it stops the machine and removes everything.
#[derive(Debug)]
pub struct Machine {
    root: Root,
    docker_config: PathBuf,
    programs: PathBuf,
    image: PathBuf,
}

/// The state directory: owned and removed, or lent.
#[derive(Debug)]
enum Root {
    Owned(TempDir),
    Lent(PathBuf),
}

impl Machine {
    /// An empty state directory; nothing runs yet.
    pub fn prepare() -> Result<Self> {
        // Short, because socket paths are limited to about a hundred bytes.
        let root = tempfile::Builder::new().prefix("rq").tempdir().context("cannot make a state directory")?;
        Self::in_root(Root::Owned(root))
    }

    /// The same in an existing directory, which is kept.
    pub fn prepare_in(directory: &Path) -> Result<Self> {
        Self::in_root(Root::Lent(directory.to_owned()))
    }

    fn in_root(root: Root) -> Result<Self> {
        let programs = rorqual_directory()?;
        if !programs.join("rorqual").is_file() {
            bail!("{} is missing: build it first (make test does)", programs.join("rorqual").display());
        }
        let image = find_image(&programs)?;
        let directory = match &root {
            Root::Owned(directory) => directory.path(),
            Root::Lent(directory) => directory.as_path(),
        };
        HOMES.lock().unwrap_or_else(PoisonError::into_inner).push(directory.to_owned());
        let docker_config = directory.join("docker");
        let plugins = docker_config.join("cli-plugins");
        fs::create_dir_all(&plugins)?;
        for plugin in ["docker-buildx", "docker-compose"] {
            let link = plugins.join(plugin);
            if link.symlink_metadata().is_err() {
                std::os::unix::fs::symlink(image.join("bin").join(plugin), link)?;
            }
        }
        Ok(Self { root, docker_config, programs, image })
    }

    /// A started machine that has the test image.
    pub fn start() -> Result<Self> {
        let machine = Self::prepare()?;
        let start = machine.rorqual(["start", "-q"]);
        machine.started_by(start)
    }

    /// The machine after `start` has started it, with the test image loaded.
    pub fn started_by(self, mut start: Command) -> Result<Self> {
        if let Err(error) = start.run().and_then(Execution::success) {
            self.print_logs();
            return Err(error);
        }
        self.load_image()?;
        Ok(self)
    }

    /// `RORQUAL_HOME`.
    pub fn home(&self) -> &Path {
        match &self.root {
            Root::Owned(directory) => directory.path(),
            Root::Lent(directory) => directory,
        }
    }

    /// The directory of machine `default`.
    pub fn directory(&self) -> PathBuf {
        self.home().join("machines/default")
    }

    /// The Docker socket on the host.
    pub fn docker_socket(&self) -> PathBuf {
        self.home().join("run/docker.sock")
    }

    /// The docker client's configuration directory.
    pub fn docker_config(&self) -> &Path {
        &self.docker_config
    }

    /// The guest image in use.
    pub fn image(&self) -> &Path {
        &self.image
    }

    /// Where the executables under test lie.
    pub fn programs(&self) -> &Path {
        &self.programs
    }

    /// `rorqual` with arguments.
    pub fn rorqual<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = Command::new(self.programs.join("rorqual"));
        command.args(arguments);
        self.environment(&mut command);
        command
    }

    /// `docker` with arguments: the unmodified client of the guest image.
    pub fn docker<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Command {
        self.client(&self.image.join("bin/docker"), arguments)
    }

    /// A docker client of another origin, with arguments.
    pub fn client<'a>(&self, program: &Path, arguments: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = Command::new(program);
        command.args(arguments);
        self.environment(&mut command);
        command.env("DOCKER_HOST", format!("unix://{}", self.docker_socket().display()));
        command
    }

    /// Runs `docker` with the words of `line`; requires exit status 0 and returns standard output, trimmed.
    pub fn run(&self, line: &str) -> Result<String> {
        self.docker(line.split_whitespace()).output_text()
    }

    /// Runs `docker` with the words of `line` and returns the outcome, successful or not.
    pub fn attempt(&self, line: &str) -> Result<Execution> {
        self.docker(line.split_whitespace()).run()
    }

    /// Points a command at this machine only.
    fn environment(&self, command: &mut Command) {
        for variable in DOCKER_VARIABLES {
            command.env_remove(variable);
        }
        command
            .env("RORQUAL_HOME", self.home())
            .env("RORQUAL_IMAGE", &self.image)
            .env("DOCKER_CONFIG", &self.docker_config);
    }

    /// The output of `rorqual status --json`, running or not.
    pub fn status(&self) -> Result<serde_json::Value> {
        self.rorqual(["status", "--json"]).run()?.json()
    }

    /// Process id of the daemon, if one runs.
    pub fn daemon_process(&self) -> Result<Option<i32>> {
        let version = self.rorqual(["version", "--json"]).run()?.success()?.json()?;
        Ok(version["daemon"]["process"].as_i64().and_then(|process| i32::try_from(process).ok()))
    }

    /// Prints the end of every log, after a failed test.
    pub fn print_logs(&self) {
        if command::refused() {
            return;
        }
        for (name, path) in [
            ("daemon", self.home().join("run/daemon.log")),
            ("vmm", self.directory().join("vmm.log")),
            ("console", self.directory().join("console.log")),
        ] {
            print_end(name, &fs::read_to_string(&path).unwrap_or_default());
        }
        if let Ok(log) = self.rorqual(["logs", "dockerd", "--tail", "40"]).run() {
            print_end("dockerd", &String::from_utf8_lossy(&log.stdout));
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        HOMES.lock().unwrap_or_else(PoisonError::into_inner).retain(|home| home != self.home());
        let quit = self.rorqual(["quit", "--stop-machines", "-q"]).run();
        if let Err(error) = quit.and_then(Execution::success) {
            eprintln!("the machine did not stop: {error:#}");
        }
        // Even after a fault test, no process of this state directory may remain.
        let gone = || processes::of_home(self.home()).is_empty().then_some(());
        if !std::thread::panicking() && within(Duration::from_secs(5), gone).is_some() {
            return;
        }
        for process in processes::of_home(self.home()) {
            eprintln!("left behind, killed now: {process}");
            process.kill();
        }
    }
}

fn print_end(name: &str, log: &str) {
    let lines: Vec<&str> = log.lines().collect();
    eprintln!("--- end of the log of {name}");
    for line in lines.iter().skip(lines.len().saturating_sub(40)) {
        eprintln!("{line}");
    }
}

/// The directory of Rorqual's programs: `RORQUAL_PROGRAMS`, else the test's own. Tests are built with another profile
/// than the programs.
fn rorqual_directory() -> Result<PathBuf> {
    match env::var_os("RORQUAL_PROGRAMS").filter(|value| !value.is_empty()) {
        Some(directory) => Ok(directory.into()),
        None => program_directory(),
    }
}

/// The directory of the test's own programs, `target/<profile>`; a test executable is in its `deps`.
pub fn program_directory() -> Result<PathBuf> {
    let executable = env::current_exe()?;
    let directory = executable.parent().context("the test executable has no directory")?;
    let directory = if directory.ends_with("deps") { directory.parent().unwrap_or(directory) } else { directory };
    Ok(directory.to_owned())
}

/// The guest image: `RORQUAL_IMAGE`, else the newest of `target/images`.
fn find_image(programs: &Path) -> Result<PathBuf> {
    if let Some(image) = env::var_os("RORQUAL_IMAGE").filter(|value| !value.is_empty()) {
        return Ok(image.into());
    }
    let images = programs.parent().unwrap_or(programs).join("images");
    let mut found: Vec<PathBuf> = fs::read_dir(&images)
        .with_context(|| format!("no guest image in {}: make one first (make image)", images.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.join("manifest.json").is_file())
        .collect();
    found.sort();
    found.pop().with_context(|| format!("no guest image in {}: make one first (make image)", images.display()))
}
