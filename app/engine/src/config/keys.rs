//! The table of settings: every key of `config.toml` and of a machine's `machine.toml`.
//!
//! It is the source of the commented files that Rorqual writes ([`template`](super::template)), the keys the reader
//! accepts, the form of the Settings page, and the table in `docs/user-guide.md`. A new setting is an entry in this
//! table and a line in the reader; the tests of this folder name whatever is missing.

use std::{fmt, ops::RangeInclusive};

use super::values::{ACCELERATORS, BIND_POLICIES, CPUS, Config, DISK_GIB, MEMORY_MIB, MachineConfig, PORTS};
use crate::proxy::Choice;

/// A section of a settings file, `[name]`.
pub struct Section<T: 'static> {
    /// Name in brackets; empty for the keys of `machine.toml`, which has no sections.
    pub name: &'static str,
    /// Heading on the Settings page.
    pub title: &'static str,
    /// Its keys, in the order of the file.
    pub keys: &'static [Key<T>],
}

impl<T> Section<T> {
    /// The full name of one of its keys: `network.host_access`, or `cpus` in a file without sections.
    pub fn path(&self, key: &Key<T>) -> String {
        if self.name.is_empty() { key.name.to_owned() } else { format!("{}.{}", self.name, key.name) }
    }

    pub(super) fn names(&self) -> Vec<&'static str> {
        self.keys.iter().map(|key| key.name).collect()
    }
}

/// A key of a settings file; `T` is the type the file parses to.
pub struct Key<T> {
    /// Name within its section.
    pub name: &'static str,
    /// Label on the Settings page.
    pub title: &'static str,
    /// What the setting does, in one or more sentences. Names of commands and keys are in backticks.
    pub description: &'static str,
    /// The values it accepts.
    pub kind: Kind,
    /// When a change takes effect.
    pub takes_effect: TakesEffect,
    /// Extracts its value from parsed settings; from the default settings, the key's default.
    pub value: fn(&T) -> Value,
}

/// The values a setting accepts.
pub enum Kind {
    /// `true` or `false`.
    Switch,
    /// One of several words, each with its title on the Settings page.
    Choice(&'static [(&'static str, &'static str)]),
    /// A whole number.
    Integer {
        /// Smallest and largest value.
        range: RangeInclusive<u32>,
        /// `MiB`, `GiB`, or empty.
        unit: &'static str,
    },
    /// Text; empty means unset.
    Text {
        /// An example of a value.
        example: &'static str,
    },
}

/// A value of a setting. `Display` writes it as TOML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `true` or `false`.
    Switch(bool),
    /// A whole number.
    Integer(u32),
    /// Text, or a word of a choice. A proxy's address includes its login.
    Text(String),
}

impl fmt::Display for Value {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Switch(on) => fmt::Display::fmt(on, formatter),
            Self::Integer(number) => fmt::Display::fmt(number, formatter),
            Self::Text(text) => fmt::Display::fmt(&toml_edit::Value::from(text.as_str()), formatter),
        }
    }
}

/// When a change of a setting takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakesEffect {
    /// For machines created after the change.
    NewMachine,
    /// When a machine boots or resumes.
    MachineStart,
    /// When a machine boots. A resumed guest keeps the value it booted with.
    MachineBoot,
    /// When the daemon starts.
    DaemonStart,
    /// When the command line writes Docker's own configuration.
    StartCommand,
}

impl TakesEffect {
    /// The same as a sentence for users.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::NewMachine => "Applies to machines created from now on; existing machines keep their own value.",
            Self::MachineStart => "Takes effect when the machine restarts.",
            Self::MachineBoot => {
                "Takes effect when the machine restarts; a suspended machine resumes with the old value."
            }
            Self::DaemonStart => {
                "Takes effect when Rorqual's background service restarts: run `rorqual quit`, then any command."
            }
            Self::StartCommand => "Takes effect at the next `rorqual start`.",
        }
    }
}

/// `config.toml`.
pub static CONFIG: [Section<Config>; 7] = [
    Section {
        name: "machine",
        title: "Machines",
        keys: &[
            Key {
                name: "accelerator",
                title: "Accelerator",
                description: "How the machine's processor runs. By default it runs in the best way that works on this \
                              computer; `rorqual status` shows which one and why.",
                kind: Kind::Choice(&[
                    ("auto", "Automatic"),
                    ("kvm", "KVM: hardware virtualization"),
                    ("uml", "UML: needs no virtualization, slower"),
                ]),
                takes_effect: TakesEffect::MachineStart,
                value: |config| word(&ACCELERATORS, config.accelerator),
            },
            Key {
                name: "cpus",
                title: "CPUs of a new machine",
                description: "Number of virtual CPUs. A machine on the uml accelerator always has one.",
                kind: Kind::Integer { range: CPUS, unit: "" },
                takes_effect: TakesEffect::NewMachine,
                value: |config| Value::Integer(config.machine.cpus),
            },
            Key {
                name: "memory_mib",
                title: "Memory of a new machine",
                description: "The most memory the machine can use. With kvm, it returns unused memory to this \
                              computer.",
                kind: Kind::Integer { range: MEMORY_MIB, unit: "MiB" },
                takes_effect: TakesEffect::NewMachine,
                value: |config| Value::Integer(config.machine.memory_mib),
            },
            Key {
                name: "disk_gib",
                title: "Disk of a new machine",
                description: "The largest size the machine's disk can reach. It takes only the space it uses.",
                kind: Kind::Integer { range: DISK_GIB, unit: "GiB" },
                takes_effect: TakesEffect::NewMachine,
                value: |config| Value::Integer(config.machine.disk_gib),
            },
        ],
    },
    Section {
        name: "ports",
        title: "Published ports",
        keys: &[Key {
            name: "bind",
            title: "Published ports listen on",
            description: "Where `docker run -p 8080:80` listens when no address is given. A given address \
                          (`-p 192.168.1.5:8080:80`) is used as it is.",
            kind: Kind::Choice(&[("localhost", "This computer only"), ("all", "All network interfaces")]),
            takes_effect: TakesEffect::MachineStart,
            value: |config| word(&BIND_POLICIES, config.bind),
        }],
    },
    Section {
        name: "network",
        title: "Network",
        keys: &[
            Key {
                name: "subnet",
                title: "The machine's network",
                description: "Private network between this computer and the machine. If it is empty, Rorqual picks \
                              one that this computer has no route to. If that one is in the way, set a network of 16 \
                              addresses or more.",
                kind: Kind::Text { example: "10.77.0.0/24" },
                takes_effect: TakesEffect::MachineBoot,
                value: |config| optional(config.network.subnet.as_deref()),
            },
            Key {
                name: "host_access",
                title: "Containers reach this computer",
                description: "Lets containers reach what listens on this computer's localhost, by the name \
                              `host.docker.internal`.",
                kind: Kind::Switch,
                takes_effect: TakesEffect::MachineStart,
                value: |config| Value::Switch(config.network.host_access),
            },
            Key {
                name: "block_link_local",
                title: "Block link-local addresses",
                description: "Keeps containers from reaching 169.254.0.0/16, where clouds serve a machine's secrets.",
                kind: Kind::Switch,
                takes_effect: TakesEffect::MachineStart,
                value: |config| Value::Switch(config.network.block_link_local),
            },
        ],
    },
    Section {
        name: "proxy",
        title: "Proxies",
        keys: &[
            Key {
                name: "http",
                title: "Proxy for HTTP",
                description: "Proxy for pulls over HTTP: `http://`, `https://` or `socks5://`, with `user:password@` \
                              before the name if it needs a login. A proxy on this computer's 127.0.0.1 works too. If \
                              it is empty, `http_proxy` or `all_proxy` of the environment the background service \
                              started in applies; `direct` means no proxy.",
                kind: Kind::Text { example: "http://proxy.example.com:3128" },
                takes_effect: TakesEffect::MachineBoot,
                value: |config| proxy(&config.proxy.http),
            },
            Key {
                name: "https",
                title: "Proxy for HTTPS",
                description: "The same for pulls over HTTPS, which is nearly all of them. If it is empty, \
                              `https_proxy` or `all_proxy` applies.",
                kind: Kind::Text { example: "http://proxy.example.com:3128" },
                takes_effect: TakesEffect::MachineBoot,
                value: |config| proxy(&config.proxy.https),
            },
            Key {
                name: "no_proxy",
                title: "Without a proxy",
                description: "Names, .domains and networks to reach without a proxy, separated by commas. If it is \
                              empty, `no_proxy` of the environment the background service started in applies.",
                kind: Kind::Text { example: ".example.com,10.0.0.0/8" },
                takes_effect: TakesEffect::MachineBoot,
                value: |config| optional(config.proxy.no_proxy.as_deref()),
            },
            Key {
                name: "containers",
                title: "Proxy for builds and containers",
                description: "Gives builds and containers the proxy in their environment. Docker takes it from its \
                              own config.json: `rorqual start` and `rorqual context use` write it there, login \
                              included, for Rorqual's socket alone, and remove it when this is off.",
                kind: Kind::Switch,
                takes_effect: TakesEffect::StartCommand,
                value: |config| Value::Switch(config.proxy.containers),
            },
        ],
    },
    Section {
        name: "routes",
        title: "Container names",
        keys: &[
            Key {
                name: "enabled",
                title: "Names for containers",
                description: "Serves `http://<container>.rorqual.localhost`, which reaches port 80 of a container or \
                              the port in its label `dev.rorqual.http-port`, and `http://rorqual.localhost`, which \
                              lists them. Only this computer can use these names.",
                kind: Kind::Switch,
                takes_effect: TakesEffect::DaemonStart,
                value: |config| Value::Switch(config.routes.enabled),
            },
            Key {
                name: "http_port",
                title: "Port of the names",
                description: "Port on localhost that always serves the names over HTTP.",
                kind: Kind::Integer { range: PORTS, unit: "" },
                takes_effect: TakesEffect::DaemonStart,
                value: |config| Value::Integer(config.routes.http_port.into()),
            },
            Key {
                name: "https_port",
                title: "Port of the names, by HTTPS",
                description: "Port on localhost that always serves the names over HTTPS. Run `rorqual https trust` \
                              once so that browsers accept its certificates.",
                kind: Kind::Integer { range: PORTS, unit: "" },
                takes_effect: TakesEffect::DaemonStart,
                value: |config| Value::Integer(config.routes.https_port.into()),
            },
            Key {
                name: "standard_ports",
                title: "Names without a port",
                description: "Serves the names on ports 80 and 443 too, so that addresses need no port. It does so \
                              if the system lets Rorqual listen there, and while no container publishes them.",
                kind: Kind::Switch,
                takes_effect: TakesEffect::DaemonStart,
                value: |config| Value::Switch(config.routes.standard_ports),
            },
        ],
    },
    Section {
        name: "image",
        title: "Guest image",
        keys: &[Key {
            name: "path",
            title: "Guest image",
            description: "Full path of the directory of a guest image to use instead of the one that came with \
                          Rorqual.",
            kind: Kind::Text { example: "/opt/rorqual/images/0.1.0" },
            takes_effect: TakesEffect::MachineStart,
            value: |config| optional(config.image.as_deref().and_then(std::path::Path::to_str)),
        }],
    },
    Section {
        name: "daemon",
        title: "Background service",
        keys: &[Key {
            name: "log",
            title: "Level of the log",
            description: "What the background service writes to run/daemon.log: `error`, `warn`, `info`, `debug` or \
                          `trace`, or a filter by module such as `info,rorqual_engine::ports=debug`.",
            kind: Kind::Text { example: "info" },
            takes_effect: TakesEffect::DaemonStart,
            value: |config| Value::Text(config.log.clone()),
        }],
    },
];

/// `machine.toml`.
pub static MACHINE: Section<MachineConfig> = Section {
    name: "",
    title: "Machine",
    keys: &[
        Key {
            name: "cpus",
            title: "CPUs",
            description: "Number of virtual CPUs. A machine on the uml accelerator always has one.",
            kind: Kind::Integer { range: CPUS, unit: "" },
            takes_effect: TakesEffect::MachineStart,
            value: |machine| Value::Integer(machine.cpus),
        },
        Key {
            name: "memory_mib",
            title: "Memory",
            description: "The most memory the machine can use. With kvm, it returns unused memory to this computer.",
            kind: Kind::Integer { range: MEMORY_MIB, unit: "MiB" },
            takes_effect: TakesEffect::MachineStart,
            value: |machine| Value::Integer(machine.memory_mib),
        },
        Key {
            name: "disk_gib",
            title: "Disk",
            description: "The largest size the machine's disk can reach. A larger value grows the disk; a smaller one \
                          never shrinks it.",
            kind: Kind::Integer { range: DISK_GIB, unit: "GiB" },
            takes_effect: TakesEffect::MachineStart,
            value: |machine| Value::Integer(machine.disk_gib),
        },
    ],
};

fn word<T: Copy + PartialEq>(words: &[(&str, T)], chosen: T) -> Value {
    Value::Text(
        words.iter().find(|(_, meaning)| *meaning == chosen).map_or_else(String::new, |(word, _)| (*word).into()),
    )
}

fn optional(text: Option<&str>) -> Value {
    Value::Text(text.unwrap_or_default().to_owned())
}

fn proxy(choice: &Choice) -> Value {
    Value::Text(choice.text())
}

/// The names of the sections of `config.toml`.
pub(super) fn sections() -> Vec<&'static str> {
    CONFIG.iter().map(|section| section.name).collect()
}

/// The names of the keys in a section of `config.toml`.
pub(super) fn names(section: &str) -> Vec<&'static str> {
    CONFIG.iter().find(|known| known.name == section).map(Section::names).unwrap_or_default()
}
