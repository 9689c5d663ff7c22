//! What each setting is, for a person.

use rorqual_engine::config::{CPUS, Config, DISK_GIB, MEMORY_MIB, MachineConfig, PORTS};

use crate::contract::{SettingChoice, SettingKind, SettingValue, TakesEffect};

/// A key of a settings file.
pub(super) struct Key {
    /// Section and key: `network.host_access`; a machine's file has no sections.
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    pub(super) description: &'static str,
    pub(super) kind: SettingKind,
    pub(super) default: SettingValue,
    pub(super) takes_effect: TakesEffect,
}

fn choices(words: &[(&str, &str)]) -> SettingKind {
    let choice =
        |(value, title): &(&str, &str)| SettingChoice { value: (*value).to_owned(), title: (*title).to_owned() };
    SettingKind::Choice { choices: words.iter().map(choice).collect() }
}

fn integer(range: &std::ops::RangeInclusive<u32>, unit: &str) -> SettingKind {
    SettingKind::Integer { minimum: *range.start(), maximum: *range.end(), unit: unit.to_owned() }
}

fn text(placeholder: &str) -> SettingKind {
    SettingKind::Text { placeholder: placeholder.to_owned() }
}

fn word(value: &str) -> SettingValue {
    SettingValue::Text(value.to_owned())
}

/// Every key of `config.toml`, in its order.
pub(super) fn config() -> Vec<Key> {
    let default = Config::default();
    vec![
        Key {
            name: "machine.accelerator",
            title: "Accelerator",
            description: "How the machine's processor runs. Automatic takes the best that works here; the machine's page says which and why.",
            kind: choices(&[
                ("auto", "Automatic"),
                ("kvm", "KVM: hardware virtualization"),
                ("uml", "UML: needs no virtualization, slower"),
            ]),
            default: word("auto"),
            takes_effect: TakesEffect::MachineStart,
        },
        Key {
            name: "machine.cpus",
            title: "Processors of a new machine",
            description: "What a machine gets when it is made. With the UML accelerator it has one, whatever this says.",
            kind: integer(&CPUS, ""),
            default: SettingValue::Integer(default.machine.cpus),
            takes_effect: TakesEffect::NewMachine,
        },
        Key {
            name: "machine.memory_mib",
            title: "Memory of a new machine",
            description: "The most a new machine can use. What it does not use goes back to this computer.",
            kind: integer(&MEMORY_MIB, "MiB"),
            default: SettingValue::Integer(default.machine.memory_mib),
            takes_effect: TakesEffect::NewMachine,
        },
        Key {
            name: "machine.disk_gib",
            title: "Disk of a new machine",
            description: "The largest a new machine's disk can become. It takes only what is used.",
            kind: integer(&DISK_GIB, "GiB"),
            default: SettingValue::Integer(default.machine.disk_gib),
            takes_effect: TakesEffect::NewMachine,
        },
        Key {
            name: "ports.bind",
            title: "Published ports listen on",
            description: "Where a container's published port listens when no address is given. An address that is given is used as it is.",
            kind: choices(&[("localhost", "This computer only"), ("all", "Every network this computer is in")]),
            default: word("localhost"),
            takes_effect: TakesEffect::MachineStart,
        },
        Key {
            name: "network.subnet",
            title: "The machine's network",
            description: "A network only the machine sees. Empty lets Rorqual choose one that this computer has no route to; set one of 16 addresses or more when the choice is in your way.",
            kind: text("10.77.0.0/24"),
            default: word(default.network.subnet.as_deref().unwrap_or_default()),
            takes_effect: TakesEffect::MachineStart,
        },
        Key {
            name: "network.host_access",
            title: "Containers reach this computer",
            description: "Containers may reach what listens on this computer's localhost, by the name host.docker.internal.",
            kind: SettingKind::Switch,
            default: SettingValue::Switch(default.network.host_access),
            takes_effect: TakesEffect::MachineStart,
        },
        Key {
            name: "network.block_link_local",
            title: "Close link-local addresses",
            description: "Closes 169.254.0.0/16 to containers. Clouds keep a machine's secrets there.",
            kind: SettingKind::Switch,
            default: SettingValue::Switch(default.network.block_link_local),
            takes_effect: TakesEffect::MachineStart,
        },
        Key {
            name: "proxy.http",
            title: "Proxy for HTTP",
            description: "The proxy for pulls by HTTP: http://, https:// or socks5://. Empty means what http_proxy said where the daemon was started; direct means none.",
            kind: text("http://proxy.example.com:3128"),
            default: word(""),
            takes_effect: TakesEffect::MachineStart,
        },
        Key {
            name: "proxy.https",
            title: "Proxy for HTTPS",
            description: "The same for pulls by HTTPS, which is nearly all of them.",
            kind: text("http://proxy.example.com:3128"),
            default: word(""),
            takes_effect: TakesEffect::MachineStart,
        },
        Key {
            name: "proxy.no_proxy",
            title: "Without a proxy",
            description: "What is asked directly: names, .domains and networks with commas between. Empty means what no_proxy said where the daemon was started.",
            kind: text(".example.com,10.0.0.0/8"),
            default: word(""),
            takes_effect: TakesEffect::MachineStart,
        },
        Key {
            name: "proxy.containers",
            title: "Proxy for builds and containers",
            description: "Builds and containers get the proxy in their environment. Docker takes it from its own config.json: the next `rorqual start` writes it there, login included, for Rorqual's socket alone.",
            kind: SettingKind::Switch,
            default: SettingValue::Switch(default.proxy.containers),
            takes_effect: TakesEffect::MachineStart,
        },
        Key {
            name: "routes.enabled",
            title: "Names for containers",
            description: "http://<container>.rorqual.localhost reaches port 80 of a container, or the port in its label dev.rorqual.http-port. Only this computer can use these names.",
            kind: SettingKind::Switch,
            default: SettingValue::Switch(default.routes.enabled),
            takes_effect: TakesEffect::DaemonStart,
        },
        Key {
            name: "routes.http_port",
            title: "Port of the names",
            description: "The port of localhost on which containers have names, by HTTP.",
            kind: integer(&PORTS, ""),
            default: SettingValue::Integer(default.routes.http_port.into()),
            takes_effect: TakesEffect::DaemonStart,
        },
        Key {
            name: "routes.https_port",
            title: "Port of the names, by HTTPS",
            description: "The same by HTTPS. Run `rorqual https trust` once, and browsers take its certificates.",
            kind: integer(&PORTS, ""),
            default: SettingValue::Integer(default.routes.https_port.into()),
            takes_effect: TakesEffect::DaemonStart,
        },
        Key {
            name: "routes.standard_ports",
            title: "Names without a port",
            description: "Serves the names on 80 and 443 too, where the system lets Rorqual listen there and while no container publishes them.",
            kind: SettingKind::Switch,
            default: SettingValue::Switch(default.routes.standard_ports),
            takes_effect: TakesEffect::DaemonStart,
        },
        Key {
            name: "image.path",
            title: "Guest image",
            description: "Full path of a guest image to use in place of the one that came with Rorqual. Empty means none.",
            kind: text("/opt/rorqual/images/0.1.0"),
            default: word(""),
            takes_effect: TakesEffect::MachineStart,
        },
        Key {
            name: "daemon.log",
            title: "Detail of the daemon's log",
            description: "error, warn, info, debug or trace, or a filter by module such as info,rorqual_engine::ports=debug.",
            kind: text("info"),
            default: word(&default.log),
            takes_effect: TakesEffect::DaemonStart,
        },
    ]
}

/// Every key of a machine's `machine.toml`; `made_with` is what counts when it does not say.
pub(super) fn machine(made_with: &MachineConfig) -> Vec<Key> {
    vec![
        Key {
            name: "cpus",
            title: "Processors",
            description: "Processors this machine has. With the UML accelerator it has one, whatever this says.",
            kind: integer(&CPUS, ""),
            default: SettingValue::Integer(made_with.cpus),
            takes_effect: TakesEffect::MachineStart,
        },
        Key {
            name: "memory_mib",
            title: "Memory",
            description: "The most this machine can use. What it does not use goes back to this computer.",
            kind: integer(&MEMORY_MIB, "MiB"),
            default: SettingValue::Integer(made_with.memory_mib),
            takes_effect: TakesEffect::MachineStart,
        },
        Key {
            name: "disk_gib",
            title: "Disk",
            description: "The largest this machine's disk can become. It grows when this grows; it never shrinks.",
            kind: integer(&DISK_GIB, "GiB"),
            default: SettingValue::Integer(made_with.disk_gib),
            takes_effect: TakesEffect::MachineStart,
        },
    ]
}
