//! The exit statuses of commands.

/// The exit statuses, as `--help` and the manual page show them.
pub(crate) const EXIT_STATUS_HELP: &str = "Exit status:
  0    success
  1    failure; for doctor: a problem was found
  2    invalid command line
  3    the machine is not running
  4    the daemon cannot be reached or started
  5    a configuration file is invalid: config.toml, machine.toml, or docker's config.json
  130  cancelled by Ctrl-C
  `rorqual shell` exits with the status of the command it ran, or with 125 if Rorqual could not run it.";

/// The outcome of a command, as its exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Failed,
    Usage,
    NotRunning,
    NoDaemon,
    BadConfiguration,
    Cancelled,
    /// `rorqual shell` could not run a command, so it has no status to pass on.
    NoCommandStatus,
}

impl Exit {
    pub(crate) fn status(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotRunning => 3,
            Self::NoDaemon => 4,
            Self::BadConfiguration => 5,
            Self::NoCommandStatus => 125,
            Self::Cancelled => 130,
        }
    }

    /// The exit status for a stable code of the engine.
    pub(crate) fn of_code(code: &str) -> Self {
        match code {
            "machine-not-running" => Self::NotRunning,
            "machine-name-invalid" => Self::Usage,
            "daemon-not-running" | "daemon-unreachable" | "daemon-start-failed" => Self::NoDaemon,
            _ if code.starts_with("config-") => Self::BadConfiguration,
            _ => Self::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_decide_the_exit_status() {
        for (code, status) in [
            ("machine-not-running", 3),
            ("config-invalid", 5),
            ("daemon-unreachable", 4),
            ("machine-name-invalid", 2),
            ("image-corrupt", 1),
        ] {
            assert_eq!(Exit::of_code(code).status(), status, "{code}");
        }
    }

    #[test]
    fn every_exit_status_is_told_in_the_help() {
        for exit in [
            Exit::Failed,
            Exit::Usage,
            Exit::NotRunning,
            Exit::NoDaemon,
            Exit::BadConfiguration,
            Exit::NoCommandStatus,
            Exit::Cancelled,
        ] {
            assert!(EXIT_STATUS_HELP.contains(&exit.status().to_string()), "{exit:?}");
        }
    }
}
