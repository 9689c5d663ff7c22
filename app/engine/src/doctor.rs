//! What `rorqual doctor` finds: each check tries the thing itself and says what to do.

use std::{
    env, fs,
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::{Path, PathBuf},
};

use crate::{
    api::{Check, check::Verdict},
    config::{Config, MachineConfig},
    disk,
    home::{Home, SOCKET_PATH_LIMIT},
    image::{Accelerator, Image, ImageError},
    machine::{accelerator, vmm},
};

/// Makes every check.
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
    checks.push(settings(home, config.err().map(|error| error.to_string()), &usable));
    checks
}

fn check(id: &str, verdict: Verdict, finding: impl Into<String>, fix: impl Into<String>) -> Check {
    Check { id: id.to_owned(), verdict: verdict.into(), finding: finding.into(), fix: fix.into() }
}

async fn accelerators(image: Option<&Image>) -> Vec<Check> {
    let kernel = image.and_then(|image| image.kernel(Accelerator::Uml).ok()).map(|(kernel, _)| kernel);
    let program = match vmm::find_program() {
        Ok(program) => program,
        Err(error) => {
            let fix = "install Rorqual again, or build it with `make`";
            return ["kvm", "uml"].map(|id| check(id, Verdict::Problem, error.to_string(), fix)).into();
        }
    };
    match accelerator::probe(&program, kernel.as_deref()).await {
        Err(error) => {
            let fix = format!("run `{} probe` by hand to see more", program.display());
            ["kvm", "uml"].map(|id| check(id, Verdict::Problem, error.to_string(), fix.clone())).into()
        }
        Ok(probe) => {
            let kvm = if probe.kvm.usable {
                check("kvm", Verdict::Ok, probe.kvm.reason, "")
            } else {
                let fix = "machines run with uml, which is slower; for kvm, switch on virtualization in the firmware \
                           (or nested virtualization of the machine this runs in) and be in the group kvm";
                check("kvm", Verdict::Note, probe.kvm.reason, fix)
            };
            let uml = if probe.uml.usable {
                check("uml", Verdict::Ok, probe.uml.reason, "")
            } else {
                let fix = "without kvm and uml no machine can run: allow this user ptrace (Yama's ptrace_scope at most 1, \
                           no seccomp filter against it) and put a sound guest image in place";
                check("uml", Verdict::Problem, probe.uml.reason, fix)
            };
            vec![kvm, uml]
        }
    }
}

async fn check_image(home: &Home, image: Result<Image, ImageError>) -> Check {
    const FIX: &str = "build the image with `make image`, or install Rorqual again";
    let image = match image {
        Ok(image) => image,
        Err(error) => return check("image", Verdict::Problem, error.to_string(), FIX),
    };
    let home = home.clone();
    let verified = tokio::task::spawn_blocking(move || {
        image.verify(&home).map(|()| format!("{} in {} is sound", image.version(), image.directory().display()))
    });
    match verified.await {
        Ok(Ok(finding)) => check("image", Verdict::Ok, finding, ""),
        Ok(Err(error)) => check("image", Verdict::Problem, error.to_string(), FIX),
        Err(error) => check("image", Verdict::Problem, format!("the check broke off: {error}"), FIX),
    }
}

fn disk_space(home: &Home) -> Check {
    const FIX: &str = "free some space, or move the state directory to a larger disk and set RORQUAL_HOME to it";
    match disk::free_space(home.root()) {
        Err(error) => check("disk-space", Verdict::Problem, format!("cannot tell how much is free: {error}"), FIX),
        Ok(free) => {
            let finding = format!("{} MiB are free in {}", free >> 20, home.root().display());
            match free {
                free if free < disk::FREE_NEEDED => check("disk-space", Verdict::Problem, finding, FIX),
                free if free < disk::FREE_LOW => check("disk-space", Verdict::Note, finding, FIX),
                _ => check("disk-space", Verdict::Ok, finding, ""),
            }
        }
    }
}

fn state_directory(home: &Home) -> Check {
    let root = home.root().display();
    // The same look as at start, and one file written and removed.
    if let Err(error) = Home::at(home.root()) {
        return check(
            "state-directory",
            Verdict::Problem,
            error.to_string(),
            "mend it as the message says, then start the daemon again",
        );
    }
    let trial = home.run_directory().join("doctor.trial");
    match fs::write(&trial, "trial").and_then(|()| fs::remove_file(&trial)) {
        Ok(()) => check("state-directory", Verdict::Ok, format!("{root} is writable and yours alone"), ""),
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
        let fix = "restart the daemon: `rorqual daemon` is started by the next command once this one has ended";
        if let Err(error) = UnixStream::connect(path) {
            return check("sockets", Verdict::Problem, format!("{shown} does not answer: {error}"), fix);
        }
        let mode = fs::metadata(path).map_or(0, |metadata| metadata.permissions().mode() & 0o777);
        if mode & 0o077 != 0 {
            let fix = format!("close it with: chmod 600 {shown}");
            return check("sockets", Verdict::Problem, format!("{shown} is open to other users (mode {mode:o})"), fix);
        }
    }
    let longest = sockets.iter().map(|path| path.as_os_str().len()).max().unwrap_or_default();
    let finding = format!("both answer, to you alone; paths have at most {longest} of {} bytes", SOCKET_PATH_LIMIT - 1);
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
            "there is no docker client in PATH",
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

fn settings(home: &Home, error: Option<String>, config: &Config) -> Check {
    const FIX: &str = "mend that line; the comments in the file say what may be there";
    if let Some(error) = error {
        return check("config", Verdict::Problem, error, FIX);
    }
    for name in home.machines().unwrap_or_default() {
        let paths = home.machine(&name);
        if Path::exists(&paths.settings())
            && let Err(error) = MachineConfig::load(&paths, &config.machine)
        {
            return check("config", Verdict::Problem, error.to_string(), FIX);
        }
    }
    check("config", Verdict::Ok, format!("{} reads well", home.config_file().display()), "")
}
