//! The state directory: all files of one user's Rorqual (docs/contracts.md, "State directory").

use std::{
    env, fs, io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use nix::unistd::geteuid;
use thiserror::Error;

use crate::error::Coded;

/// Limit of a socket path's length, terminator included, in bytes: the smallest `sun_path` of the supported systems.
pub const SOCKET_PATH_LIMIT: usize = 104;

/// Name of the machine when none is given.
pub const DEFAULT_MACHINE: &str = "default";

/// Why the state directory cannot be used.
#[derive(Debug, Error)]
pub enum HomeError {
    /// Neither `RORQUAL_HOME` nor `HOME` is set.
    #[error("no state directory: neither RORQUAL_HOME nor HOME is set")]
    Nowhere,
    /// A relative path would mean a different directory for each caller.
    #[error("RORQUAL_HOME is {0}, which is not an absolute path")]
    Relative(PathBuf),
    /// The kernel limits the length of socket paths.
    #[error(
        "the path of the state directory {root} is too long: its socket {socket} would have {length} bytes, and a \
         socket's path may have {max}",
        max = SOCKET_PATH_LIMIT - 1
    )]
    TooDeep {
        /// The state directory.
        root: PathBuf,
        /// The longest socket path below it.
        socket: PathBuf,
        /// Its length in bytes.
        length: usize,
    },
    /// The directory belongs to another user, who could replace its files.
    #[error("the state directory {path} belongs to user {owner}, not to you (user {user})")]
    ForeignOwner {
        /// The directory.
        path: PathBuf,
        /// User id of its owner.
        owner: u32,
        /// User id of this process.
        user: u32,
    },
    /// The path is not a directory.
    #[error("{0} is not a directory")]
    NotADirectory(PathBuf),
    /// The operating system refused an operation.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// The operation: "create", "read".
        action: &'static str,
        /// The path.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

impl Coded for HomeError {
    fn code(&self) -> &'static str {
        "state-directory-unusable"
    }

    fn fix(&self) -> Option<String> {
        Some(match self {
            Self::Nowhere => "set RORQUAL_HOME to a directory of yours".to_owned(),
            Self::Relative(_) => "set RORQUAL_HOME to the full path of a directory".to_owned(),
            Self::TooDeep { .. } => "set RORQUAL_HOME to a shorter path".to_owned(),
            Self::ForeignOwner { path, user, .. } => format!(
                "set RORQUAL_HOME to a directory of yours, or take it back with `sudo chown -R {user} {}`",
                path.display()
            ),
            Self::NotADirectory(_) => "move it away, or set RORQUAL_HOME to another path".to_owned(),
            Self::Io { path, .. } => format!("check the permissions of {} and the space on its disk", path.display()),
        })
    }
}

#[cfg(test)]
crate::error::tests::samples!(HomeError {
    Nowhere => Self::Nowhere,
    Relative => Self::Relative("h".into()),
    TooDeep => Self::TooDeep { root: "/h".into(), socket: "/h/run/engine.sock".into(), length: 120 },
    ForeignOwner => Self::ForeignOwner { path: "/h".into(), owner: 0, user: 1000 },
    NotADirectory => Self::NotADirectory("/h".into()),
    Io => Self::Io { action: "create", path: "/h".into(), source: crate::error::tests::refusal() },
});

/// The name of a machine: 1 to 32 lower-case letters, digits and hyphens; the first and last are a letter or digit. It
/// serves as a directory name, a host name and part of a Docker context's name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MachineName(String);

/// The name violates the rules of [`MachineName`].
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{0:?} is not a machine name")]
pub struct BadMachineName(String);

impl Coded for BadMachineName {
    fn code(&self) -> &'static str {
        "machine-name-invalid"
    }

    fn fix(&self) -> Option<String> {
        Some("use 1 to 32 lower-case letters, digits and hyphens, with a letter or digit first and last".to_owned())
    }

    fn grpc_code(&self) -> tonic::Code {
        tonic::Code::InvalidArgument
    }
}

#[cfg(test)]
impl crate::error::tests::Samples for BadMachineName {
    fn samples() -> Vec<Self> {
        vec![Self("../up".to_owned())]
    }
}

impl MachineName {
    /// Validates a name; empty means [`DEFAULT_MACHINE`].
    pub fn parse(text: &str) -> Result<Self, BadMachineName> {
        let name = if text.is_empty() { DEFAULT_MACHINE } else { text };
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let bytes = name.as_bytes();
        let fits = bytes.len() <= 32
            && bytes.iter().all(|&byte| plain(byte) || byte == b'-')
            && bytes.first().is_some_and(|&byte| plain(byte))
            && bytes.last().is_some_and(|&byte| plain(byte));
        if fits { Ok(Self(name.to_owned())) } else { Err(BadMachineName(text.to_owned())) }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for MachineName {
    fn default() -> Self {
        Self(DEFAULT_MACHINE.to_owned())
    }
}

impl std::fmt::Display for MachineName {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The state directory. A value exists only after these checks: the directory exists, belongs to this user, and its
/// socket paths fit.
#[derive(Clone, Debug)]
pub struct Home {
    root: PathBuf,
}

impl Home {
    /// The directory in `RORQUAL_HOME`, else `.rorqual` in the home directory; created if missing.
    pub fn locate() -> Result<Self, HomeError> {
        let named = env::var_os("RORQUAL_HOME").filter(|value| !value.is_empty()).map(PathBuf::from);
        let root = match named {
            Some(path) if path.is_absolute() => path,
            Some(path) => return Err(HomeError::Relative(path)),
            None => {
                let home = env::var_os("HOME").filter(|value| !value.is_empty()).ok_or(HomeError::Nowhere)?;
                PathBuf::from(home).join(".rorqual")
            }
        };
        Self::at(root)
    }

    /// The state directory at `root`, created with its folders (0700) if missing.
    ///
    /// # Errors
    ///
    /// A socket path is too long, the directory belongs to another user, or it cannot be created.
    pub fn at(root: impl Into<PathBuf>) -> Result<Self, HomeError> {
        let home = Self { root: root.into() };
        home.check_depth(&home.machine(&MachineName::default()))?;
        for directory in [
            home.root.clone(),
            home.run_directory(),
            home.images_directory(),
            home.machines_directory(),
            home.bin_directory(),
        ] {
            ensure_private_directory(&directory)?;
        }
        Ok(home)
    }

    /// Creates a machine's directory; fails if the machine's socket paths would not fit.
    pub fn create_machine(&self, name: &MachineName) -> Result<MachinePaths, HomeError> {
        let paths = self.machine(name);
        self.check_depth(&paths)?;
        ensure_private_directory(paths.directory())?;
        Ok(paths)
    }

    /// The machines that have a directory here, sorted by name.
    pub fn machines(&self) -> Result<Vec<MachineName>, HomeError> {
        let directory = self.machines_directory();
        let read = |source| HomeError::Io { action: "read", path: directory.clone(), source };
        let mut names = Vec::new();
        for entry in fs::read_dir(&directory).map_err(read)? {
            let name = entry.map_err(read)?.file_name();
            if let Some(name) = name.to_str().filter(|name| !name.is_empty()) {
                names.extend(MachineName::parse(name).ok());
            }
        }
        names.sort();
        Ok(names)
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `config.toml`.
    pub fn config_file(&self) -> PathBuf {
        self.root.join("config.toml")
    }

    /// `images/`: guest images, one folder a version.
    pub fn images_directory(&self) -> PathBuf {
        self.root.join("images")
    }

    /// `bin/`: the docker client and its plugins.
    pub fn bin_directory(&self) -> PathBuf {
        self.root.join("bin")
    }

    /// `machines/`.
    pub fn machines_directory(&self) -> PathBuf {
        self.root.join("machines")
    }

    /// `run/`: the daemon's sockets, lock and log.
    pub fn run_directory(&self) -> PathBuf {
        self.root.join("run")
    }

    /// `run/daemon.lock`, which the daemon holds with flock; contains its process id.
    pub fn daemon_lock(&self) -> PathBuf {
        self.run_directory().join("daemon.lock")
    }

    /// `run/start.lock`, held with flock while a process starts the daemon, so that concurrent callers start one.
    pub fn start_lock(&self) -> PathBuf {
        self.run_directory().join("start.lock")
    }

    /// `run/engine.sock`, gRPC.
    pub fn engine_socket(&self) -> PathBuf {
        self.run_directory().join("engine.sock")
    }

    /// `run/docker.sock`, the guest's Docker socket.
    pub fn docker_socket(&self) -> PathBuf {
        self.run_directory().join("docker.sock")
    }

    /// `run/daemon.log`.
    pub fn daemon_log(&self) -> PathBuf {
        self.run_directory().join("daemon.log")
    }

    /// `run/image-verified.json`: the image files verified so far, so that a start need not read them again.
    pub fn image_verified(&self) -> PathBuf {
        self.run_directory().join("image-verified.json")
    }

    /// `run/in-effect.json`: the settings the daemon started with.
    pub fn in_effect(&self) -> PathBuf {
        self.run_directory().join("in-effect.json")
    }

    /// The files of a machine, whether it exists or not.
    pub fn machine(&self, name: &MachineName) -> MachinePaths {
        MachinePaths { directory: self.machines_directory().join(name.as_str()) }
    }

    fn check_depth(&self, machine: &MachinePaths) -> Result<(), HomeError> {
        let longest = [self.engine_socket(), self.docker_socket(), machine.control_socket(), machine.vsock_port(9999)]
            .into_iter()
            .max_by_key(|path| path.as_os_str().len());
        match longest {
            Some(socket) if socket.as_os_str().len() >= SOCKET_PATH_LIMIT => {
                Err(HomeError::TooDeep { root: self.root.clone(), length: socket.as_os_str().len(), socket })
            }
            _ => Ok(()),
        }
    }
}

/// The files of one machine.
#[derive(Clone, Debug)]
pub struct MachinePaths {
    directory: PathBuf,
}

impl MachinePaths {
    /// The machine's directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// `machine.toml`: CPUs, memory and disk size.
    pub fn settings(&self) -> PathBuf {
        self.directory.join("machine.toml")
    }

    /// `data.img`: the data disk, raw and sparse.
    pub fn data_disk(&self) -> PathBuf {
        self.directory.join("data.img")
    }

    /// `snapshot/`: the machine's saved state while it is suspended; rorqual-vmm writes and removes its files.
    pub fn snapshot(&self) -> PathBuf {
        self.directory.join("snapshot")
    }

    /// `vmm.json`: the configuration rorqual-vmm was started with.
    pub fn vmm_config(&self) -> PathBuf {
        self.directory.join("vmm.json")
    }

    /// `started.json`: the daemon's record of the running machine, for the next daemon.
    pub fn started(&self) -> PathBuf {
        self.directory.join("started.json")
    }

    /// `in-effect.json`: the settings the machine started with.
    pub fn in_effect(&self) -> PathBuf {
        self.directory.join("in-effect.json")
    }

    /// `vmm.log`: the monitor's own log.
    pub fn vmm_log(&self) -> PathBuf {
        self.directory.join("vmm.log")
    }

    /// `console.log`: the guest's console.
    pub fn console_log(&self) -> PathBuf {
        self.directory.join("console.log")
    }

    /// `control.sock`: commands for rorqual-vmm.
    pub fn control_socket(&self) -> PathBuf {
        self.directory.join("control.sock")
    }

    /// `vsock.sock`: connections from the host to the guest.
    pub fn vsock_socket(&self) -> PathBuf {
        self.directory.join("vsock.sock")
    }

    /// `vsock.sock_<port>`: connections from the guest to the host; the daemon listens.
    pub fn vsock_port(&self, port: u32) -> PathBuf {
        self.directory.join(format!("vsock.sock_{port}"))
    }
}

/// Creates `path` as 0700 if missing; refuses anything but a directory of this user, and closes it to others.
fn ensure_private_directory(path: &Path) -> Result<(), HomeError> {
    let io = |action| move |source| HomeError::Io { action, path: path.to_owned(), source };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|source| {
        if source.kind() == io::ErrorKind::AlreadyExists {
            HomeError::NotADirectory(path.to_owned())
        } else {
            io("create")(source)
        }
    })?;
    let metadata = fs::metadata(path).map_err(io("read"))?;
    let user = geteuid().as_raw();
    if metadata.uid() != user {
        return Err(HomeError::ForeignOwner { path: path.to_owned(), owner: metadata.uid(), user });
    }
    if metadata.mode() & 0o077 != 0 {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(io("set the permissions of"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_state_directory_is_closed_to_others() {
        let parent = tempfile::tempdir().unwrap();
        let home = Home::at(parent.path().join("state")).unwrap();
        for directory in [home.root().to_owned(), home.run_directory(), home.machines_directory()] {
            assert_eq!(fs::metadata(directory).unwrap().mode() & 0o777, 0o700);
        }
    }

    #[test]
    fn a_state_directory_that_was_opened_to_others_is_closed_again() {
        let parent = tempfile::tempdir().unwrap();
        let home = Home::at(parent.path().join("state")).unwrap();
        fs::set_permissions(home.run_directory(), fs::Permissions::from_mode(0o755)).unwrap();
        Home::at(home.root()).unwrap();
        assert_eq!(fs::metadata(home.run_directory()).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_path_too_deep_for_sockets_is_refused_before_anything_is_created() {
        let parent = tempfile::tempdir().unwrap();
        let root = parent.path().join("x".repeat(90));
        let error = Home::at(&root).unwrap_err();
        assert!(matches!(error, HomeError::TooDeep { .. }), "{error}");
        assert!(error.fix().unwrap().contains("RORQUAL_HOME"));
        assert!(!root.exists());
    }

    #[test]
    fn a_file_in_place_of_the_directory_is_named() {
        let parent = tempfile::tempdir().unwrap();
        let root = parent.path().join("state");
        fs::write(&root, "").unwrap();
        assert!(matches!(Home::at(&root).unwrap_err(), HomeError::NotADirectory(path) if path == root));
    }

    #[test]
    fn a_directory_of_another_user_is_refused() {
        // The root directory belongs to root; as root, use one that does not.
        if geteuid().is_root() {
            let parent = tempfile::tempdir().unwrap();
            let root = parent.path().join("state");
            fs::create_dir(&root).unwrap();
            std::os::unix::fs::chown(&root, Some(12_345), None).unwrap();
            assert!(matches!(Home::at(&root).unwrap_err(), HomeError::ForeignOwner { owner: 12_345, .. }));
        } else {
            assert!(matches!(ensure_private_directory(Path::new("/")).unwrap_err(), HomeError::ForeignOwner { .. }));
        }
    }

    #[test]
    fn machine_names_are_directory_and_host_names() {
        for good in ["default", "a", "web-2", "7"] {
            assert_eq!(MachineName::parse(good).unwrap().as_str(), good);
        }
        assert_eq!(MachineName::parse("").unwrap(), MachineName::default());
        for bad in ["../up", "a/b", "-a", "a-", "Big", "a b", &"x".repeat(33), ".", "é"] {
            assert!(MachineName::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_long_machine_name_that_would_break_its_sockets_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let base = parent.path().as_os_str().len();
        // Long enough that `default` fits and a name of 32 characters does not.
        let root = parent.path().join("y".repeat(104 - base - 2 - "/machines/default/vsock.sock_9999".len()));
        let home = Home::at(root).unwrap();
        let name = MachineName::parse(&"n".repeat(32)).unwrap();
        assert!(matches!(home.create_machine(&name), Err(HomeError::TooDeep { .. })));
        assert_eq!(home.machines().unwrap(), vec![]);
    }
}
