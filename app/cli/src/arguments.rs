//! The command line, as clap parses it.

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::exit::EXIT_STATUS_HELP;

/// Runs Linux containers in a small virtual machine with the real Docker Engine inside.
#[derive(Debug, Parser)]
#[command(name = "rorqual", version, propagate_version = true, after_help = EXIT_STATUS_HELP, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Args, Clone, Debug)]
pub(crate) struct Global {
    /// The machine to work on
    #[arg(long, global = true, default_value = "default", value_name = "NAME")]
    pub(crate) machine: String,
    /// Print JSON: one document, or one per line for a stream. Errors are JSON too, on standard error
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
    /// Does nothing if the machine is already running. Ctrl-C cancels the start and stops the machine. The first start
    /// creates the docker context `rorqual` but does not change the current context.
    Start(StartOptions),
    /// Stop the machine: containers, engine, disk, power
    Stop(StopOptions),
    /// Stop the machine, then start it
    Restart(RestartOptions),
    /// Save the running machine to disk and end it; `start` resumes it
    ///
    /// Containers resume where they were; network connections close. Requires the kvm accelerator. Ctrl-C
    /// cancels, and the machine keeps running.
    Suspend,
    /// Show the machine: state, accelerator, memory, disk, ports
    ///
    /// Exits 3 if the machine is not running.
    Status {
        /// Print the status again after each change, until Ctrl-C
        #[arg(short, long)]
        watch: bool,
    },
    /// Show the log of one part of the machine
    Logs {
        /// The part whose log to show
        #[arg(value_enum, default_value_t = LogSource::Kernel)]
        source: LogSource,
        /// Keep printing new lines until Ctrl-C
        #[arg(short, long)]
        follow: bool,
        /// Print only this many of the last lines
        #[arg(short = 'n', long, value_name = "LINES", value_parser = clap::value_parser!(u32).range(1..))]
        tail: Option<u32>,
    },
    /// Open a shell in the machine, or run a command there
    ///
    /// Exits with the command's own status (128 plus the signal's number if a signal ended it), or with 125 if Rorqual
    /// could not run it. With --json, prints the collected output and the status as one document.
    Shell {
        /// Program and arguments; without them, a login shell
        #[arg(last = true, value_name = "COMMAND")]
        command: Vec<String>,
    },
    /// Serve the window's pages to a browser on this computer, until Ctrl-C
    ///
    /// Prints a single-use address, valid for ten minutes, and opens the browser there. Nobody else can see the pages.
    Web(WebOptions),
    /// Check what Rorqual needs on this computer and explain how to fix what is missing
    ///
    /// Exits 1 if there is a problem.
    Doctor,
    /// Show the versions of the command line, the daemon and the guest image
    Version,
    /// Show, use or remove the docker context `rorqual`
    #[command(subcommand)]
    Context(ContextCommand),
    /// Trust the certificates of https://<container>.rorqual.localhost on this computer, or stop trusting them
    ///
    /// A certificate authority of your own signs them. It can sign names under rorqual.localhost and nothing else.
    #[command(subcommand)]
    Https(HttpsCommand),
    /// Print the line that points the docker clients of a shell at the machine
    ///
    /// Use it as: eval "$(rorqual env)"
    Env {
        /// Print the line that undoes this
        #[arg(short, long)]
        unset: bool,
        /// The shell to write the line for
        #[arg(long, value_enum, value_name = "SHELL", default_value_t = EnvironmentSyntax::Posix)]
        shell: EnvironmentSyntax,
    },
    /// Run the daemon in the foreground; other commands start it as needed
    Daemon,
    /// Print a completion script
    Completions {
        /// The shell to complete in
        #[arg(value_enum)]
        shell: Shell,
    },
    /// End the daemon; machines keep running unless you stop them too
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
    /// What runs the machine's processor this time, instead of the setting in config.toml
    #[arg(long, visible_alias = "accel", value_enum, value_name = "NAME")]
    pub(crate) accelerator: Option<Accelerator>,
    /// Boot even if the machine is suspended: running programs are lost, as in a power cut; the disk is kept
    #[arg(long)]
    pub(crate) cold: bool,
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

#[derive(Args, Clone, Debug)]
pub(crate) struct StopOptions {
    /// End the machine at once, as in a power cut
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Seconds that containers have between SIGTERM and SIGKILL
    #[arg(short, long, value_name = "SECONDS", default_value_t = 10,
        value_parser = clap::value_parser!(u32).range(1..))]
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
    /// The best one that works on this computer
    Auto,
    /// Hardware virtualization through Linux KVM
    Kvm,
    /// User Mode Linux, which needs no virtualization
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
    /// sh, bash, zsh and similar shells
    Posix,
    /// fish
    Fish,
}

#[derive(Clone, Copy, Debug, Subcommand)]
pub(crate) enum ContextCommand {
    /// Show the context, and which one docker uses now
    Show,
    /// Create the context if necessary and make it current
    Use,
    /// Remove the context and return docker to the previous one
    Remove,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Subcommand)]
pub(crate) enum HttpsCommand {
    /// Create the authority if necessary, and add it to the trust stores of the system and of your browsers
    ///
    /// Exits 1 and prints the command to run if a step needs rights or a program you do not have.
    Trust,
    /// Remove the authority from those stores
    Untrust,
    /// Show the authority and which stores trust it
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
