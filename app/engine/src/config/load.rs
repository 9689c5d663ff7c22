//! Reads `config.toml` and `machine.toml`, creating them on first use.

use std::path::{Path, PathBuf};

use super::{
    keys,
    reader::{self, ConfigError, Section, Settings},
    template,
    values::{
        ACCELERATORS, BIND_POLICIES, CPUS, Config, DISK_GIB, MEMORY_MIB, MachineConfig, NetworkConfig, PORTS,
        RoutesConfig,
    },
};
use crate::{
    home::{Home, MachinePaths},
    proxy::{Choice, ProxyConfig},
};

impl Config {
    /// Reads `config.toml`; creates it first if it is missing.
    ///
    /// # Errors
    ///
    /// An unknown key or an invalid value, with file and line. The file is never changed.
    pub fn load(home: &Home) -> Result<Self, ConfigError> {
        let file = home.config_file();
        let text = reader::read_or_create(&file, &template::config())?;
        Self::parse(&file, &text)
    }

    /// Parses the text of `config.toml`; errors name the path `file`.
    ///
    /// # Errors
    ///
    /// The same as [`Config::load`].
    pub fn parse(file: &Path, text: &str) -> Result<Self, ConfigError> {
        let default = Self::default();
        let settings = Settings::parse(file, text)?;
        settings.root(&keys::sections())?;
        let section = |name| settings.section(name, &keys::names(name));
        let (machine, ports, network) = (section("machine")?, section("ports")?, section("network")?);
        let host_access = network.boolean("host_access", default.network.host_access)?;
        Ok(Self {
            accelerator: machine.choice("accelerator", &ACCELERATORS, default.accelerator)?,
            machine: MachineConfig::read(&machine, &default.machine)?,
            bind: ports.choice("bind", &BIND_POLICIES, default.bind)?,
            network: NetworkConfig {
                subnet: network
                    .text("subnet", |text| {
                        if text.is_empty() || is_subnet(text) {
                            return Ok(());
                        }
                        Err("must be a network of 16 addresses or more such as \"10.77.0.0/24\"".to_owned())
                    })?
                    .filter(|text| !text.is_empty()),
                host_access,
                block_link_local: network.boolean("block_link_local", default.network.block_link_local)?,
            },
            proxy: read_proxy(&section("proxy")?, host_access)?,
            routes: RoutesConfig::read(&section("routes")?, &default.routes)?,
            image: section("image")?
                .text("path", |text| {
                    let fits = text.is_empty() || Path::new(text).is_absolute();
                    if fits { Ok(()) } else { Err("must be the full path of a directory".to_owned()) }
                })?
                .filter(|text| !text.is_empty())
                .map(PathBuf::from),
            log: section("daemon")?
                .text("log", |text| {
                    let parsed = tracing_subscriber::EnvFilter::builder().parse(text);
                    parsed.map(|_| ()).map_err(|error| format!("must be a log filter such as \"info\" ({error})"))
                })?
                .unwrap_or(default.log),
        })
    }
}

impl MachineConfig {
    /// Reads a machine's `machine.toml`; creates it from `defaults` first if it is missing.
    ///
    /// # Errors
    ///
    /// The same as [`Config::load`].
    pub fn load(paths: &MachinePaths, defaults: &Self) -> Result<Self, ConfigError> {
        let file = paths.settings();
        let text = reader::read_or_create(&file, &template::machine(defaults))?;
        Self::parse(&file, &text, defaults)
    }

    /// Parses the text of `machine.toml`; errors name the path `file`, and `defaults` fills in missing keys.
    ///
    /// # Errors
    ///
    /// The same as [`Config::load`].
    pub fn parse(file: &Path, text: &str, defaults: &Self) -> Result<Self, ConfigError> {
        let settings = Settings::parse(file, text)?;
        Self::read(&settings.root(&keys::MACHINE.names())?, defaults)
    }

    fn read(section: &Section<'_>, default: &Self) -> Result<Self, ConfigError> {
        Ok(Self {
            cpus: section.integer("cpus", &CPUS, "CPUs", default.cpus)?,
            memory_mib: section.integer("memory_mib", &MEMORY_MIB, "MiB", default.memory_mib)?,
            disk_gib: section.integer("disk_gib", &DISK_GIB, "GiB", default.disk_gib)?,
        })
    }
}

fn read_proxy(section: &Section<'_>, host_access: bool) -> Result<ProxyConfig, ConfigError> {
    let fits = |text: &str| match Choice::parse(text)? {
        Choice::Proxy(url) if url.is_local() && !host_access => {
            Err("is on this computer's localhost, which the machine reaches only with host_access = true in [network]"
                .to_owned())
        }
        _ => Ok(()),
    };
    let choice = |key| {
        let text = section.secret(key, fits)?;
        // Cannot fail: `fits` has parsed it already.
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
    fn read(section: &Section<'_>, default: &Self) -> Result<Self, ConfigError> {
        let port = |key, default: u16| {
            // `PORTS` limits it to 16 bits.
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

/// Whether `text` is an IPv4 network the monitor accepts: a prefix of 8 to 28 bits, with no bits set after it.
fn is_subnet(text: &str) -> bool {
    let parts = text
        .split_once('/')
        .and_then(|(address, prefix)| Some((address.parse::<std::net::Ipv4Addr>().ok()?, prefix.parse::<u32>().ok()?)));
    parts.is_some_and(|(address, prefix)| (8..=28).contains(&prefix) && address.to_bits() << prefix == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{AcceleratorChoice, BindPolicy},
        error::Failure,
        home::MachineName,
    };

    /// Message and advice.
    fn problem(text: &str) -> String {
        Failure::of(&Config::parse(Path::new("/h/config.toml"), text).unwrap_err()).text()
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
        assert_eq!(std::fs::read_to_string(home.config_file()).unwrap(), template::config());
        std::fs::write(home.config_file(), "[machine\n").unwrap();
        Config::load(&home).unwrap_err();
        assert_eq!(std::fs::read_to_string(home.config_file()).unwrap(), "[machine\n");
    }

    #[test]
    fn a_new_machine_keeps_what_it_was_made_with() {
        let parent = tempfile::tempdir().unwrap();
        let home = Home::at(parent.path().join("h")).unwrap();
        let paths = home.create_machine(&MachineName::default()).unwrap();
        let made = MachineConfig { cpus: 4, memory_mib: 4096, disk_gib: 10 };
        assert_eq!(MachineConfig::load(&paths, &made).unwrap(), made);
        assert_eq!(MachineConfig::load(&paths, &MachineConfig::default()).unwrap(), made);
    }

    #[test]
    fn an_unknown_key_in_machine_toml_is_named() {
        let parent = tempfile::tempdir().unwrap();
        let home = Home::at(parent.path().join("h")).unwrap();
        let paths = home.create_machine(&MachineName::default()).unwrap();
        std::fs::write(paths.settings(), "cpus = 1\ndisk_gb = 3\n").unwrap();
        let error = Failure::from(MachineConfig::load(&paths, &MachineConfig::default()).unwrap_err()).text();
        assert!(
            error.ends_with("machine.toml:2: unknown key \"disk_gb\"; write \"disk_gib\" instead, or remove it"),
            "{error}"
        );
    }
}
