//! The files that Landlock leaves to the monitor.
//!
//! A rule applies to a directory or file as it is now; a disk or kernel that was opened before needs none. Newer
//! kernels restrict more: devices' ioctls (ABI 5), signals to and abstract sockets of other programs (ABI 6), sockets
//! in the file system (ABI 9). Each kernel applies what it has.

use std::fs;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, LandlockStatus, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, make_bitflags,
};
use rorqual_vmm_protocol::{Config, Failure};

/// The newest interface whose restrictions are requested; an older kernel applies those it knows.
const NEWEST: ABI = ABI::V9;

/// The file that names the host's resolvers.
pub const RESOLV_CONF: &str = "/etc/resolv.conf";

/// What Landlock restricts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Landlock {
    /// As far as this version of its interface.
    Abi(u32),
    /// Nothing: the kernel lacks it, or it is turned off.
    Absent,
}

/// Whether sockets of the host's network may be used.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Network {
    /// No TCP connection and no TCP listener (ABI 4). Only the filter of a network card's thread allows network
    /// sockets.
    #[default]
    Denied,
    /// For a monitor whose network card connects on behalf of the guest.
    Allowed,
}

/// The part of the file system and the network that is left.
#[derive(Clone, Debug, Default)]
pub struct Paths {
    own: Vec<PathBuf>,
    writable: Vec<PathBuf>,
    readable: Vec<PathBuf>,
    executable: Vec<PathBuf>,
    network: Network,
}

impl Paths {
    /// The directories in which a running machine creates files: logs, sockets, snapshots. Usually one directory.
    pub fn of(config: &Config) -> Self {
        let beside = |file: &Path| match file.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let mut paths = Self::none().own(config.directory()).own(beside(&config.console_log));
        if config.net.is_some() {
            // The name is often a link to a file elsewhere, which is replaced in its directory when the host's network
            // changes.
            let resolvers = fs::canonicalize(RESOLV_CONF).unwrap_or_else(|_| PathBuf::from(RESOLV_CONF));
            paths = paths.network(Network::Allowed).readable(beside(&resolvers));
        }
        match &config.vsock {
            Some(vsock) => paths.own(beside(&vsock.socket)),
            None => paths,
        }
    }

    /// No path, and no network.
    pub fn none() -> Self {
        Self::default()
    }

    /// Adds a directory in which files, directories and sockets are created and removed, and renamed within their
    /// directory. Renaming between directories would need more than Linux 5.13 to 5.18 has, and they would lose
    /// Landlock.
    #[must_use]
    pub fn own(mut self, directory: impl Into<PathBuf>) -> Self {
        self.own.push(directory.into());
        self
    }

    /// Adds a file, or the files in a directory, to read and write, but not to create or remove.
    #[must_use]
    pub fn writable(mut self, path: impl Into<PathBuf>) -> Self {
        self.writable.push(path.into());
        self
    }

    /// Adds a file or a directory to read.
    #[must_use]
    pub fn readable(mut self, path: impl Into<PathBuf>) -> Self {
        self.readable.push(path.into());
        self
    }

    /// Adds a program or a library, or a directory of these.
    #[must_use]
    pub fn executable(mut self, path: impl Into<PathBuf>) -> Self {
        self.executable.push(path.into());
        self
    }

    /// Adds this program, its loader and its libraries, so that it can be executed again.
    #[must_use]
    pub fn executable_itself(mut self) -> Self {
        let mapped = fs::read_to_string("/proc/self/maps").unwrap_or_default();
        // Address, permissions, offset, device, inode, path.
        let files = mapped.lines().filter_map(|line| line.splitn(6, ' ').nth(5));
        self.executable.extend(files.map(str::trim).filter(|path| path.starts_with('/')).map(PathBuf::from));
        self.executable.sort();
        self.executable.dedup();
        self.readable("/etc/ld.so.cache")
    }

    /// Sets whether the network may be used.
    #[must_use]
    pub fn network(mut self, network: Network) -> Self {
        self.network = network;
        self
    }

    /// Restricts the calling thread, and those it will start, to these paths. Skips a path that does not exist.
    pub fn restrict(&self) -> Result<Landlock, Failure> {
        self.apply().map_err(|error| Failure::internal("confine the monitor by Landlock", error))
    }

    fn apply(&self) -> Result<Landlock, RulesetError> {
        let files = AccessFs::from_all(NEWEST);
        let mut ruleset = Ruleset::default().handle_access(files)?.scope(Scope::from_all(NEWEST))?;
        if self.network == Network::Denied {
            ruleset = ruleset.handle_access(AccessNet::BindTcp | AccessNet::ConnectTcp)?;
        }
        let read = AccessFs::ReadFile | AccessFs::ReadDir;
        let write = AccessFs::WriteFile | AccessFs::Truncate;
        let change =
            make_bitflags!(AccessFs::{MakeReg | MakeDir | MakeSock | MakeFifo | RemoveFile | RemoveDir | ResolveUnix});
        let mut created = ruleset.create()?;
        for (paths, access) in [
            (&self.own, read | write | change),
            (&self.writable, read | write),
            (&self.readable, read),
            (&self.executable, read | AccessFs::Execute),
        ] {
            for path in paths {
                if let Some(rule) = rule(path, access) {
                    created = created.add_rule(rule)?;
                }
            }
        }
        let restricted = created.restrict_self()?;
        match restricted.landlock {
            LandlockStatus::Available { effective_abi, .. } if restricted.ruleset != RulesetStatus::NotEnforced => {
                Ok(Landlock::Abi(effective_abi as u32))
            }
            _ => Ok(Landlock::Absent),
        }
    }
}

/// A rule for `path`, without accesses that only directories have if it is a file.
fn rule(path: &Path, access: BitFlags<AccessFs>) -> Option<PathBeneath<PathFd>> {
    let directory = fs::metadata(path).ok()?.is_dir();
    let access = if directory { access } else { access & AccessFs::from_file(NEWEST) };
    Some(PathBeneath::new(PathFd::new(path).ok()?, access))
}
