//! Settings: `config.toml` of the state directory, and `machine.toml` of each machine.
//!
//! The files are the manual: each is written on first use with every key, its meaning and its default as comments. They
//! are read strictly and never overwritten.

mod machine;
mod reader;

use std::path::{Path, PathBuf};

pub use machine::MachineConfig;
pub use reader::ConfigError;
use reader::Settings;

use crate::{
    home::Home,
    proxy::{Choice, ProxyConfig},
};

/// CPUs a machine may have.
pub const CPUS: std::ops::RangeInclusive<u32> = 1..=64;
/// Memory a machine may have, in MiB.
pub const MEMORY_MIB: std::ops::RangeInclusive<u32> = 512..=1_048_576;
/// Sizes a data disk may have, in GiB.
pub const DISK_GIB: std::ops::RangeInclusive<u32> = 1..=16_384;

/// Ports that can be listened on.
pub const PORTS: std::ops::RangeInclusive<u32> = 1..=65_535;

/// What `config.toml` is when Rorqual writes it.
const TEMPLATE: &str = r#"# Settings of Rorqual. Every key is here with its default; take away the # to change one.
# A machine's own CPUs, memory and disk are in machines/<name>/machine.toml once it exists.

[machine]
# How the machine's processor runs: "auto" takes the best that works here and `rorqual status` says why;
# "kvm" is hardware virtualization, "uml" needs none.
# accelerator = "auto"

# What a new machine gets. The uml accelerator has one CPU whatever this says.
# cpus = 2
# memory_mib = 2048
# The largest its disk can become; it takes only what is used.
# disk_gib = 64

[ports]
# Where `docker run -p 8080:80` listens on this computer when no address is given: "localhost", or "all" for every
# network interface. An address that is given (-p 192.168.1.5:8080:80) is used as it is.
# bind = "localhost"

[network]
# The machine's own network, which only it sees; Rorqual chooses one that this computer has no route to. Set one of 16 addresses or
# more when the choice is in your way. A change counts from the machine's next start.
# subnet = ""
# Whether containers reach what listens on this computer's localhost, by the name host.docker.internal.
# host_access = true
# Whether link-local addresses (169.254.0.0/16, where clouds keep a machine's secrets) are closed to containers.
# block_link_local = true

[proxy]
# The proxy for pulls: "http://proxy.example.com:3128", "https://…", "socks5://…", with user:password@ before the name where it wants a
# login; "direct" for none; empty for what http_proxy, https_proxy and all_proxy said where the daemon was started. One on this
# computer's 127.0.0.1 works too. A change counts from the next start of the machine.
# http = ""
# https = ""
# What is asked directly: names, ".domains" and networks with commas between; empty for no_proxy of that environment.
# no_proxy = ""
# Whether builds and containers get it, too, in their environment: `rorqual start` and `rorqual context use` then write it, login included,
# into docker's own config.json ("proxies", for Rorqual's socket alone), which is where docker takes it from. false takes it out again.
# containers = false

[routes]
# Names for containers on this computer: http://<container>.rorqual.localhost reaches port 80 of a container, or the port in its label
# dev.rorqual.http-port; http://rorqual.localhost lists them. These settings count from the daemon's next start.
# enabled = true
# The ports of localhost the names are always served on.
# http_port = 7080
# https_port = 7443
# Whether 80 and 443 serve them too, so that addresses need no port: where the system lets Rorqual listen there, and while no container
# publishes them.
# standard_ports = true

[image]
# A guest image to use instead of the one that came with Rorqual: the full path of its directory.
# path = ""

[daemon]
# What the daemon writes to run/daemon.log: "error", "warn", "info", "debug" or "trace", or a filter by module such as
# "info,rorqual_engine::ports=debug".
# log = "info"
"#;

/// How a machine's processor is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcceleratorChoice {
    /// The best that works.
    Auto,
    /// Hardware virtualization.
    Kvm,
    /// User Mode Linux.
    Uml,
}

impl AcceleratorChoice {
    /// Reads the word used in settings and requests.
    pub fn parse(text: &str) -> Option<Self> {
        ACCELERATORS.iter().find(|(word, _)| *word == text).map(|(_, choice)| *choice)
    }
}

const ACCELERATORS: [(&str, AcceleratorChoice); 3] =
    [("auto", AcceleratorChoice::Auto), ("kvm", AcceleratorChoice::Kvm), ("uml", AcceleratorChoice::Uml)];

/// What a request to listen on every address becomes on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BindPolicy {
    /// `0.0.0.0` becomes `127.0.0.1` and `::` becomes `::1`.
    Localhost,
    /// Every interface, as docker was asked.
    All,
}

/// What containers reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkConfig {
    /// The machine's network, as the user wants it: `10.77.0.0/24`.
    pub subnet: Option<String>,
    /// The host's localhost, as `host.docker.internal`.
    pub host_access: bool,
    /// Link-local addresses are closed.
    pub block_link_local: bool,
}

/// Where containers have names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutesConfig {
    /// At all.
    pub enabled: bool,
    /// The port of HTTP.
    pub http_port: u16,
    /// The port of HTTPS.
    pub https_port: u16,
    /// 80 and 443 besides.
    pub standard_ports: bool,
}

/// The settings of `config.toml`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// How machines run.
    pub accelerator: AcceleratorChoice,
    /// What a new machine gets.
    pub machine: MachineConfig,
    /// Where published ports listen.
    pub bind: BindPolicy,
    /// What containers reach.
    pub network: NetworkConfig,
    /// The way to the internet.
    pub proxy: ProxyConfig,
    /// Names for containers.
    pub routes: RoutesConfig,
    /// A guest image that is used before all others.
    pub image: Option<PathBuf>,
    /// tracing filter of the daemon's log.
    pub log: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            accelerator: AcceleratorChoice::Auto,
            machine: MachineConfig::default(),
            bind: BindPolicy::Localhost,
            network: NetworkConfig { subnet: None, host_access: true, block_link_local: true },
            proxy: ProxyConfig::default(),
            routes: RoutesConfig { enabled: true, http_port: 7080, https_port: 7443, standard_ports: true },
            image: None,
            log: "info".to_owned(),
        }
    }
}

impl Config {
    /// Reads `config.toml`; writes it first when there is none.
    ///
    /// # Errors
    ///
    /// Names file and line of an unknown key or a value that does not fit; the file stays as it is.
    pub fn load(home: &Home) -> Result<Self, ConfigError> {
        let file = home.config_file();
        let text = reader::read_or_create(&file, TEMPLATE)?;
        Self::parse(&file, &text)
    }

    /// Reads `text`, which is or would be in `file`.
    pub fn parse(file: &Path, text: &str) -> Result<Self, ConfigError> {
        let default = Self::default();
        let settings = Settings::parse(file, text)?;
        settings.root(&["machine", "ports", "network", "proxy", "routes", "image", "daemon"])?;
        let machine = settings.section("machine", &["accelerator", "cpus", "memory_mib", "disk_gib"])?;
        let ports = settings.section("ports", &["bind"])?;
        let network = settings.section("network", &["subnet", "host_access", "block_link_local"])?;
        let routes = settings.section("routes", &["enabled", "http_port", "https_port", "standard_ports"])?;
        let image = settings.section("image", &["path"])?;
        let daemon = settings.section("daemon", &["log"])?;
        Ok(Self {
            accelerator: machine.choice("accelerator", &ACCELERATORS, default.accelerator)?,
            machine: MachineConfig::read(&machine, &default.machine)?,
            bind: ports.choice(
                "bind",
                &[("localhost", BindPolicy::Localhost), ("all", BindPolicy::All)],
                default.bind,
            )?,
            network: NetworkConfig {
                subnet: network
                    .text("subnet", |text| {
                        if text.is_empty() || is_subnet(text) {
                            return Ok(());
                        }
                        Err("must be a network of 16 addresses or more such as \"10.77.0.0/24\"".to_owned())
                    })?
                    .filter(|text| !text.is_empty()),
                host_access: network.boolean("host_access", default.network.host_access)?,
                block_link_local: network.boolean("block_link_local", default.network.block_link_local)?,
            },
            proxy: read_proxy(
                &settings.section("proxy", &["http", "https", "no_proxy", "containers"])?,
                network.boolean("host_access", default.network.host_access)?,
            )?,
            routes: RoutesConfig::read(&routes, &default.routes)?,
            image: image
                .text("path", |text| {
                    let fits = text.is_empty() || Path::new(text).is_absolute();
                    if fits { Ok(()) } else { Err("must be the full path of a directory".to_owned()) }
                })?
                .filter(|text| !text.is_empty())
                .map(PathBuf::from),
            log: daemon
                .text("log", |text| {
                    let parsed = tracing_subscriber::EnvFilter::builder().parse(text);
                    parsed.map(|_| ()).map_err(|error| format!("must be a log filter such as \"info\" ({error})"))
                })?
                .unwrap_or(default.log),
        })
    }
}

fn read_proxy(section: &reader::Section<'_>, host_access: bool) -> Result<ProxyConfig, ConfigError> {
    let fits = |text: &str| match Choice::parse(text)? {
        Choice::Proxy(url) if url.is_local() && !host_access => {
            Err("is on this computer's localhost, which the machine reaches only with host_access = true in [network]"
                .to_owned())
        }
        _ => Ok(()),
    };
    let choice = |key| {
        let text = section.secret(key, fits)?;
        // It was found fit a moment ago.
        Ok(text.and_then(|text| Choice::parse(&text).ok()).unwrap_or_default())
    };
    let no_proxy = section.text("no_proxy", |text| {
        let fits = text.chars().all(|sign| sign.is_ascii_graphic() || sign == ' ') && !text.contains("://");
        if fits { Ok(()) } else { Err("must be names and networks with commas between".to_owned()) }
    })?;
    Ok(ProxyConfig {
        http: choice("http")?,
        https: choice("https")?,
        no_proxy: no_proxy.filter(|text| !text.is_empty()),
        containers: section.boolean("containers", false)?,
    })
}

impl RoutesConfig {
    fn read(section: &reader::Section<'_>, default: &Self) -> Result<Self, ConfigError> {
        let port = |key, default: u16| {
            // The range is that of ports.
            section.integer(key, &PORTS, "a port", default.into()).map(|port| port as u16)
        };
        let routes = Self {
            enabled: section.boolean("enabled", default.enabled)?,
            http_port: port("http_port", default.http_port)?,
            https_port: port("https_port", default.https_port)?,
            standard_ports: section.boolean("standard_ports", default.standard_ports)?,
        };
        if routes.http_port == routes.https_port {
            return Err(section.refuse("https_port", "must be another port than http_port"));
        }
        Ok(routes)
    }
}

/// Whether `text` is a network of IPv4 as the monitor takes it: 8 to 28 bits, and none set behind them.
fn is_subnet(text: &str) -> bool {
    let parts = text
        .split_once('/')
        .and_then(|(address, prefix)| Some((address.parse::<std::net::Ipv4Addr>().ok()?, prefix.parse::<u32>().ok()?)));
    parts.is_some_and(|(address, prefix)| (8..=28).contains(&prefix) && address.to_bits() << prefix == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Failure;

    /// Message and advice.
    fn problem(text: &str) -> String {
        Failure::of(&Config::parse(Path::new("/h/config.toml"), text).unwrap_err()).text()
    }

    #[test]
    fn the_written_file_says_the_defaults() {
        assert_eq!(Config::parse(Path::new("c"), TEMPLATE).unwrap(), Config::default());
        let uncommented: Vec<_> = TEMPLATE
            .lines()
            .map(|line| match line.strip_prefix("# ") {
                Some(key) if key.split_once(" = ").is_some_and(|(key, _)| !key.contains(' ')) => key,
                _ => line,
            })
            .collect();
        let uncommented = uncommented.join("\n");
        assert_ne!(uncommented, TEMPLATE);
        assert_eq!(Config::parse(Path::new("c"), &uncommented).unwrap(), Config::default());
    }

    #[test]
    fn settings_are_read() {
        let text = "[machine]\naccelerator = \"uml\"\ncpus = 4\n[ports]\nbind = \"all\"\n[image]\npath = \"/i\"\n";
        let config = Config::parse(Path::new("c"), text).unwrap();
        assert_eq!((config.accelerator, config.machine.cpus), (AcceleratorChoice::Uml, 4));
        assert_eq!((config.bind, config.image), (BindPolicy::All, Some(PathBuf::from("/i"))));
        let text = "[network]\nsubnet = \"10.77.0.0/24\"\nhost_access = false\nblock_link_local = false\n";
        let network = Config::parse(Path::new("c"), text).unwrap().network;
        assert_eq!(network.subnet.as_deref(), Some("10.77.0.0/24"));
        assert!(!network.host_access && !network.block_link_local);
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line_and_the_nearest_known_one() {
        let text = problem("\n[machine]\ncpus = 2\nmemory_mb = 1\n");
        let expected = "unknown key \"memory_mb\" in [machine]; write \"memory_mib\" instead, or remove it";
        assert_eq!(text, format!("/h/config.toml:4: {expected}"));
        assert!(
            problem("# c\n[prots]\n").starts_with("/h/config.toml:2: unknown section [prots]; write \"ports\" instead")
        );
        assert!(problem("colour = 1\n").contains("use one of machine, ports, network, proxy, routes, image, daemon"));
    }

    #[test]
    fn a_bad_value_is_named_with_its_line_and_what_would_be_right() {
        let text = problem("[machine]\n\ncpus = \"many\"\n");
        assert_eq!(
            text,
            "/h/config.toml:3: cpus in [machine] must be a whole number of CPUs from 1 to 64, but it is \"many\"; \
             correct the value, or remove the line to use the default"
        );
        assert!(problem("[machine]\ncpus = 0").contains("config.toml:2: cpus"));
        assert!(problem("[machine]\naccelerator = \"hvf\"").contains("must be one of \"auto\", \"kvm\", \"uml\""));
        assert!(problem("[image]\npath = \"here\"").contains("full path"));
        for subnet in ["10.77.0.1/24", "10.0.0.0/29", "10.0.0.0", "fd00::/64"] {
            assert!(problem(&format!("[network]\nsubnet = \"{subnet}\"")).contains("16 addresses or more"), "{subnet}");
        }
        for address in ["ftp://me:s3cret@proxy", "http://me:s3cret@proxy:0"] {
            let said = problem(&format!("[proxy]\nhttps = \"{address}\""));
            assert!(said.contains("config.toml:2: https in [proxy] must be the address of a proxy"), "{said}");
            assert!(!said.contains("s3cret"), "{said}");
        }
        let closed = "[network]\nhost_access = false\n[proxy]\nhttp = \"http://me:s3cret@127.0.0.1:3128\"";
        let said = problem(closed);
        assert!(said.contains("config.toml:4: http in [proxy] is on this computer's localhost"), "{said}");
        assert!(!said.contains("s3cret"), "{said}");
        assert!(problem("[routes]\nhttp_port = 0").contains("from 1 to 65535"));
        assert!(
            problem("[routes]\n\nhttps_port = 7080").contains("config.toml:3: https_port in [routes] must be another")
        );
        assert!(problem("[network]\nhost_access = 1").contains("must be true or false"));
        assert!(problem("[daemon]\nlog = \"a=b=c\"").contains("log filter"));
        assert!(problem("machine = 3").contains("config.toml:1: machine is a value, but must be a section"));
    }

    #[test]
    fn text_that_is_not_toml_is_named_with_its_line() {
        let text = problem("[machine]\ncpus = 2\nmemory_mib =\n");
        assert!(text.starts_with("/h/config.toml:3: this is not TOML"), "{text}");
    }

    #[test]
    fn a_damaged_file_is_never_overwritten() {
        let parent = tempfile::tempdir().unwrap();
        let home = Home::at(parent.path().join("h")).unwrap();
        assert_eq!(Config::load(&home).unwrap(), Config::default());
        assert_eq!(std::fs::read_to_string(home.config_file()).unwrap(), TEMPLATE);
        std::fs::write(home.config_file(), "[machine\n").unwrap();
        Config::load(&home).unwrap_err();
        assert_eq!(std::fs::read_to_string(home.config_file()).unwrap(), "[machine\n");
    }
}
