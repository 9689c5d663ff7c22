//! The command line as clap reads it.

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::failure::EXIT_STATUS_HELP;

/// Linux containers on any computer: a small machine with the real Docker Engine in it.
#[derive(Debug, Parser)]
#[command(name = "rorqual", version, propagate_version = true, after_help = EXIT_STATUS_HELP, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options every command takes.
#[derive(Args, Clone, Debug)]
pub(crate) struct Global {
    /// The machine that is meant
    #[arg(long, global = true, default_value = "default", value_name = "NAME")]
    pub(crate) machine: String,
    /// Print JSON: one document, or one per line where the answer is a stream; errors too, on standard error
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print no progress, only results and errors
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start the machine and wait until its Docker Engine answers
    ///
    /// Does nothing when it runs already. Ctrl-C cancels: the machine is stopped again. The first start creates the
    /// docker context `rorqual`; it does not change the context in use.
    Start(StartOptions),
    /// Stop the machine: containers, engine, disk, power
    Stop(StopOptions),
    /// Stop the machine, then start it
    Restart(RestartOptions),
    /// Save the machine as it runs and end it; `start` goes on where it was
    ///
    /// Containers stand still meanwhile and go on as if nothing had been; connections end. Needs the kvm accelerator. Ctrl-C
    /// cancels: the machine goes on.
    Suspend,
    /// Show the machine: state, accelerator, memory, disk, ports
    ///
    /// Exits 3 when the machine is not running.
    Status {
        /// Print the status again after each change, until Ctrl-C
        #[arg(short, long)]
        watch: bool,
    },
    /// Show what a part of the machine has logged
    Logs {
        /// Whose log
        #[arg(value_enum, default_value_t = LogSource::Kernel)]
        source: LogSource,
        /// Go on with what is logged from now, until Ctrl-C
        #[arg(short, long)]
        follow: bool,
        /// Only this many lines from the end
        #[arg(short = 'n', long, value_name = "LINES", value_parser = clap::value_parser!(u32).range(1..))]
        tail: Option<u32>,
    },
    /// Open a shell in the machine, or run a command there
    ///
    /// Exits with the command's own status (128 and the signal's number when a signal ended it), and 125 when there is
    /// none because Rorqual failed. With --json the output is collected and printed with the status as one document.
    Shell {
        /// Program and arguments; a login shell when there are none
        #[arg(last = true, value_name = "COMMAND")]
        command: Vec<String>,
    },
    /// Serve the window's pages to a browser on this computer, until Ctrl-C
    ///
    /// Prints an address that opens them once, within ten minutes, and opens the browser there. Nobody without that address gets in.
    Web(WebOptions),
    /// Try what Rorqual needs on this computer and tell what to do about what is missing
    ///
    /// Exits 1 when there is a problem.
    Doctor,
    /// Show the versions of the command line, the daemon and the guest image
    Version,
    /// Show, use or remove the docker context `rorqual`
    #[command(subcommand)]
    Context(ContextCommand),
    /// Trust the certificates of containers' names (https://<container>.rorqual.localhost) on this computer, or no longer
    ///
    /// They are signed by a local authority of yours, which can sign names below rorqual.localhost and nothing else.
    #[command(subcommand)]
    Https(HttpsCommand),
    /// Print the line that points docker clients of this shell at the machine
    ///
    /// Use it as: eval "$(rorqual env)"
    Env {
        /// Print the line that undoes it
        #[arg(short, long)]
        unset: bool,
        /// In the language of this shell
        #[arg(long, value_enum, value_name = "SHELL", default_value_t = EnvironmentSyntax::Posix)]
        shell: EnvironmentSyntax,
    },
    /// Run the daemon in the foreground; other commands start it when it is needed
    Daemon,
    /// Print a completion script
    Completions {
        /// For which shell
        #[arg(value_enum)]
        shell: Shell,
    },
    /// End the daemon; machines go on unless told otherwise
    Quit {
        /// Stop the machines first
        #[arg(long)]
        stop_machines: bool,
    },
    /// Print the manual page
    #[command(hide = true)]
    Man,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct StartOptions {
    /// What runs the machine's processor, this time; else what config.toml says
    #[arg(long, visible_alias = "accel", value_enum, value_name = "NAME")]
    pub(crate) accelerator: Option<Accelerator>,
    /// Boot, even if the machine is suspended: what ran in it then is lost, as in a power cut; its disk is kept
    #[arg(long)]
    pub(crate) cold: bool,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct StopOptions {
    /// End the machine at once, as if its power was cut
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Seconds containers get between SIGTERM and SIGKILL
    #[arg(short, long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) timeout: u32,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct RestartOptions {
    #[command(flatten)]
    pub(crate) stop: StopOptions,
    #[command(flatten)]
    pub(crate) start: StartOptions,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Accelerator {
    /// The best that works here
    Auto,
    /// The processor's virtualization, by Linux KVM
    Kvm,
    /// User Mode Linux: no virtualization needed
    Uml,
}

impl Accelerator {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Kvm => "kvm",
            Self::Uml => "uml",
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LogSource {
    /// The guest's console
    Kernel,
    /// Process 1 of the guest
    Agent,
    /// containerd in the guest
    Containerd,
    /// The Docker Engine in the guest
    Dockerd,
    /// The machine monitor on this computer
    Vmm,
    /// The daemon on this computer
    Daemon,
}

impl LogSource {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Agent => "agent",
            Self::Containerd => "containerd",
            Self::Dockerd => "dockerd",
            Self::Vmm => "vmm",
            Self::Daemon => "daemon",
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum EnvironmentSyntax {
    /// sh, bash, zsh and their like
    Posix,
    /// fish
    Fish,
}

#[derive(Clone, Copy, Debug, Subcommand)]
pub(crate) enum ContextCommand {
    /// Show the context and which one docker uses now
    Show,
    /// Create the context if need be and make it the current one
    Use,
    /// Remove the context; docker goes back to the one used before
    Remove,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Subcommand)]
pub(crate) enum HttpsCommand {
    /// Make the authority if need be, and put it into the stores of the system and of your browsers
    ///
    /// Exits 1 and prints the command to run when something needs rights or a program you do not have.
    Trust,
    /// Take it out of them
    Untrust,
    /// Show the authority and who trusts it
    Status,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn global_options_stand_before_or_after_the_command() {
        for line in
            [["rorqual", "--machine", "web", "--json", "status"], ["rorqual", "status", "--json", "--machine", "web"]]
        {
            let arguments = Arguments::try_parse_from(line).unwrap();
            assert_eq!(arguments.global.machine, "web");
            assert!(arguments.global.json);
        }
    }

    #[test]
    fn what_follows_the_dashes_of_shell_is_the_command_and_nothing_else() {
        let arguments = Arguments::try_parse_from(["rorqual", "shell", "--", "ls", "--json", "-n"]).unwrap();
        assert!(!arguments.global.json);
        assert!(matches!(arguments.command, Command::Shell { command } if command == ["ls", "--json", "-n"]));
    }
}

/// Options of `web`.
#[derive(Args, Clone, Debug)]
pub(crate) struct WebOptions {
    /// Port of localhost to listen on; 0 lets the system choose
    #[arg(long, default_value_t = 0)]
    pub(crate) port: u16,
    /// Do not open the browser
    #[arg(long)]
    pub(crate) no_open: bool,
}
