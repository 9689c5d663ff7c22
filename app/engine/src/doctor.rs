//! The checks of `rorqual doctor`: each tries the operation itself and gives advice.

use std::{
    env, fs,
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::{Path, PathBuf},
};

use rorqual_vmm_protocol::Accelerator;

use crate::{
    api::{Check, check::Verdict},
    config::{Config, ConfigError, MachineConfig},
    disk,
    error::Coded,
    home::{Home, SOCKET_PATH_LIMIT},
    image::{Image, ImageError},
    machine::accelerator,
    monitor,
};

/// Advice that makes kvm usable on most computers.
const KVM_ADVICE: &str = "turn on virtualization in the firmware (or nested virtualization of the virtual machine this \
                          is) and join the group kvm; until then machines run with uml, which is slower";
/// Advice that makes User Mode Linux usable; without it, a computer without kvm cannot run a machine.
const UML_ADVICE: &str = "allow this user ptrace (Yama's ptrace_scope at most 1, no seccomp filter against it) and \
                          install an undamaged guest image";

/// Runs every check.
pub async fn examine(home: &Home) -> Vec<Check> {
    let config = Config::load(home);
    let usable = config.as_ref().ok().cloned().unwrap_or_default();
    let image = Image::locate(home, &usable);
    let mut checks = accelerators(image.as_ref().ok()).await;
    checks.push(check_image(home, image).await);
    checks.push(disk_space(home));
    checks.push(state_directory(home));
    checks.push(sockets(home));
    checks.push(docker_client(home));
    checks.push(settings(home, config.err(), &usable));
    checks
}

fn check(id: &str, verdict: Verdict, finding: impl Into<String>, fix: impl Into<String>) -> Check {
    Check { id: id.to_owned(), verdict: verdict.into(), finding: finding.into(), fix: fix.into() }
}

/// A check that failed with an error of the engine.
fn problem(id: &str, error: &dyn Coded) -> Check {
    check(id, Verdict::Problem, error.to_string(), error.fix().unwrap_or_default())
}

async fn accelerators(image: Option<&Image>) -> Vec<Check> {
    let kernel = image.and_then(|image| image.kernel(Accelerator::Uml).ok()).map(|(kernel, _)| kernel);
    let program = match monitor::find_program() {
        Ok(program) => program,
        Err(error) => return ["kvm", "uml"].map(|id| problem(id, &error)).into(),
    };
    match accelerator::probe(&program, kernel.as_deref()).await {
        Err(error) => {
            let fix = format!("run `{} probe` to read all of its output", program.display());
            ["kvm", "uml"].map(|id| check(id, Verdict::Problem, error.to_string(), fix.clone())).into()
        }
        Ok(probe) => {
            let kvm = if probe.kvm.usable {
                check("kvm", Verdict::Ok, probe.kvm.reason, "")
            } else {
                let fix = probe.kvm.fix.unwrap_or_else(|| KVM_ADVICE.to_owned());
                check("kvm", Verdict::Note, probe.kvm.reason, fix)
            };
            let uml = if probe.uml.usable {
                check("uml", Verdict::Ok, probe.uml.reason, "")
            } else {
                let fix = probe.uml.fix.unwrap_or_else(|| UML_ADVICE.to_owned());
                check("uml", Verdict::Problem, probe.uml.reason, fix)
            };
            vec![kvm, uml]
        }
    }
}

async fn check_image(home: &Home, image: Result<Image, ImageError>) -> Check {
    let image = match image {
        Ok(image) => image,
        Err(error) => return problem("image", &error),
    };
    let home = home.clone();
    let verified = tokio::task::spawn_blocking(move || {
        image.verify(&home).map(|()| format!("{} in {} is undamaged", image.version(), image.directory().display()))
    });
    match verified.await {
        Ok(Ok(finding)) => check("image", Verdict::Ok, finding, ""),
        Ok(Err(error)) => problem("image", &error),
        Err(error) => check("image", Verdict::Problem, format!("the check failed: {error}"), "try again"),
    }
}

fn disk_space(home: &Home) -> Check {
    match disk::free_space(home.root()) {
        Err(error) => {
            check("disk-space", Verdict::Problem, format!("cannot determine the free space: {error}"), disk::FREE_SPACE)
        }
        Ok(free) => {
            let finding = format!("{} MiB free in {}", free >> 20, home.root().display());
            match free {
                free if free < disk::FREE_NEEDED => check("disk-space", Verdict::Problem, finding, disk::FREE_SPACE),
                free if free < disk::FREE_LOW => check("disk-space", Verdict::Note, finding, disk::FREE_SPACE),
                _ => check("disk-space", Verdict::Ok, finding, ""),
            }
        }
    }
}

fn state_directory(home: &Home) -> Check {
    let root = home.root().display();
    // The check at start, plus one file written and removed.
    if let Err(error) = Home::at(home.root()) {
        return problem("state-directory", &error);
    }
    let trial = home.run_directory().join("doctor.trial");
    match fs::write(&trial, "trial").and_then(|()| fs::remove_file(&trial)) {
        Ok(()) => check("state-directory", Verdict::Ok, format!("{root} is writable and accessible only to you"), ""),
        Err(error) => check(
            "state-directory",
            Verdict::Problem,
            format!("cannot write in {root}: {error}"),
            format!("check the space and the permissions of {root}"),
        ),
    }
}

fn sockets(home: &Home) -> Check {
    let sockets = [home.engine_socket(), home.docker_socket()];
    for path in &sockets {
        let shown = path.display();
        let fix = "quit the daemon with `rorqual quit`; the next command starts a new one";
        if let Err(error) = UnixStream::connect(path) {
            return check("sockets", Verdict::Problem, format!("{shown} does not answer: {error}"), fix);
        }
        let mode = fs::metadata(path).map_or(0, |metadata| metadata.permissions().mode() & 0o777);
        if mode & 0o077 != 0 {
            let fix = format!("close it with `chmod 600 {shown}`");
            return check("sockets", Verdict::Problem, format!("{shown} is open to other users (mode {mode:o})"), fix);
        }
    }
    let longest = sockets.iter().map(|path| path.as_os_str().len()).max().unwrap_or_default();
    let finding =
        format!("both answer, and only to you; paths have at most {longest} of {} bytes", SOCKET_PATH_LIMIT - 1);
    check("sockets", Verdict::Ok, finding, "")
}

fn docker_client(home: &Home) -> Check {
    let path = env::var_os("PATH").unwrap_or_default();
    let places = std::iter::once(home.bin_directory()).chain(env::split_paths(&path));
    match places.map(|place| place.join("docker")).find(is_program) {
        Some(program) => check("docker-client", Verdict::Ok, format!("found {}", program.display()), ""),
        None => check(
            "docker-client",
            Verdict::Note,
            "PATH has no docker client",
            format!(
                "put the guest image's bin/docker into PATH, or link it to {}",
                home.bin_directory().join("docker").display()
            ),
        ),
    }
}

fn is_program(path: &PathBuf) -> bool {
    fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

fn settings(home: &Home, error: Option<ConfigError>, config: &Config) -> Check {
    if let Some(error) = error {
        return problem("config", &error);
    }
    for name in home.machines().unwrap_or_default() {
        let paths = home.machine(&name);
        if Path::exists(&paths.settings())
            && let Err(error) = MachineConfig::load(&paths, &config.machine)
        {
            return problem("config", &error);
        }
    }
    check("config", Verdict::Ok, format!("{} is valid", home.config_file().display()), "")
}
