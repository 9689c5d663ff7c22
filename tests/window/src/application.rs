//! The application, started through tauri-driver.

use std::{
    env, fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rorqual_tests::{Machine, Run, eventually, eventually_ok, host_port};
use tempfile::TempDir;

use crate::{screen::Screen, tray, webdriver::Session};

/// The title of its window.
pub const TITLE: &str = "Rorqual";
/// The bus name of its first process.
const INSTANCE: &str = "dev.rorqual.Rorqual.SingleInstance";

/// The running application of a test. It ends with the test; the machine keeps running.
#[derive(Debug)]
pub struct Application {
    /// Its pages.
    pub page: Session,
    /// The display it is on.
    pub screen: Screen,
    picture: &'static str,
    driver: Child,
    user: TempDir,
    program: PathBuf,
    variables: Vec<(String, String)>,
}

impl Application {
    /// Starts it on the state directory of `machine`, for a user who has never had it, and waits for its page. What the
    /// page shows at the end, however the test ends, is kept as `pictures/<picture>.png` beside the application.
    pub fn start(machine: &Machine, picture: &'static str) -> Result<Self> {
        let user = tempfile::tempdir()?;
        let program = PathBuf::from(env::var_os("RORQUAL_DESKTOP").context("RORQUAL_DESKTOP is not set")?);
        let variables = variables(machine, &user);
        let (port, native) = (host_port::free()?, host_port::free()?);
        let mut command = Command::new(env::var_os("TAURI_DRIVER").context("TAURI_DRIVER is not set")?);
        command.args(["--port", &port.to_string(), "--native-port", &native.to_string()]);
        let driver = command.envs(variables.clone()).stdout(Stdio::null()).spawn().context("tauri-driver")?;
        let text = program.to_str().context("the path of the application is not text")?.to_owned();
        let page = eventually_ok("the application starts", || Session::start(port, &text))?;
        let application = Self { picture, page, screen: Screen::open()?, driver, user, program, variables };
        eventually("the window is shown", || application.is_shown().ok().filter(|shown| *shown))?;
        application.page.find("//*[@id='app']/*")?;
        Ok(application)
    }

    /// Its first process.
    pub fn process(&self) -> Result<i32> {
        tray::owner_process(INSTANCE)?.context("the application has ended")
    }

    /// Opens the list of containers, past the first run.
    pub fn containers(&self) -> Result<()> {
        eventually_ok("the list of containers", || {
            if let Ok(welcome) = self.page.find_now("//button[normalize-space()='Go to my containers']") {
                // The button moves during layout, and a click that misses it does nothing.
                welcome.click()?;
            }
            // Nothing is selected, so that rows show all their columns.
            self.page.script("location.hash = '/containers'")?;
            self.page.find_now("//input[starts-with(@aria-label,'Select ')]").map(drop)
        })
    }

    /// Whether its window is visible.
    pub fn is_shown(&self) -> Result<bool> {
        self.screen.shows(TITLE)
    }

    /// Waits until its window is visible or hidden.
    pub fn becomes_shown(&self, shown: bool) -> Result<()> {
        let what = if shown { "the window is shown" } else { "the window is hidden" };
        eventually(what, || self.is_shown().ok().filter(|now| *now == shown)).map(drop)
    }

    /// Waits until its process has ended.
    pub fn ends(&self) -> Result<()> {
        eventually("the application ends", || tray::owner_process(INSTANCE).ok().filter(Option::is_none)).map(drop)
    }

    /// Starts it again with arguments; the second process must hand over to the first and exit successfully.
    pub fn start_again(&self, arguments: &[&str]) -> Result<()> {
        let mut command = Command::new(&self.program);
        command.args(arguments).envs(self.variables.clone());
        command.run()?.success().map(drop)
    }

    /// Saves a picture of the page in `pictures` beside the application.
    pub fn keep_picture(&self, name: &str) -> Result<()> {
        let directory = self.program.parent().context("the application's path has no directory")?.join("pictures");
        fs::create_dir_all(&directory)?;
        fs::write(directory.join(format!("{name}.png")), self.page.picture()?)?;
        Ok(())
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        // A closed page has no picture.
        self.keep_picture(self.picture).ok();
        // It may have ended on purpose. With a tray it outlives its window, and so the session.
        self.page.end().ok();
        self.driver.kill().and_then(|()| self.driver.wait().map(drop)).ok();
        if let Ok(Some(process)) = tray::owner_process(INSTANCE) {
            kill(Pid::from_raw(process), Signal::SIGKILL).ok();
        }
        if let Err(error) = self.ends() {
            eprintln!("{error}, with its files in {}", self.user.path().display());
        }
    }
}

/// The environment of a separate user, with the state directory of `machine`.
fn variables(machine: &Machine, user: &TempDir) -> Vec<(String, String)> {
    let home = user.path().display().to_string();
    let mut variables: Vec<(String, String)> = machine
        .rorqual([])
        .get_envs()
        .filter_map(|(name, value)| Some((name.to_str()?.to_owned(), value?.to_str()?.to_owned())))
        .collect();
    for (name, below) in
        [("HOME", ""), ("XDG_CONFIG_HOME", "/config"), ("XDG_DATA_HOME", "/data"), ("XDG_CACHE_HOME", "/cache")]
    {
        variables.push((name.to_owned(), format!("{home}{below}")));
    }
    variables
}
