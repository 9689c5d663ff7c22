//! The request of a port proxy: dockerd's arguments, each terminated by a zero byte, and one more zero byte
//! (`guest-agent/shims/src/bin/port_proxy.rs`).

use std::collections::HashMap;
use std::net::IpAddr;
use std::str::FromStr;

use rorqual_protocol::agent::PublishedPort;
use rorqual_protocol::agent::published_port::{Kind, Protocol};

use super::transport::Transport;

/// A port to publish for as long as the proxy's connection is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PublishRequest {
    pub(crate) transport: Transport,
    pub(crate) host_address: IpAddr,
    pub(crate) host_port: u16,
    pub(crate) container_address: IpAddr,
    pub(crate) container_port: u16,
}

impl PublishRequest {
    /// Reads the arguments, the program's name first: names with one dash, each but `-use-listen-fd` followed by its
    /// value.
    ///
    /// # Errors
    /// A sentence for the user, if an argument is missing or cannot be published.
    pub(super) fn parse(arguments: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(arguments).map_err(|_| "dockerd's arguments are not UTF-8 text".to_owned())?;
        let mut words = text.split_terminator('\0').skip(1);
        let mut values = HashMap::new();
        while let Some(name) = words.next() {
            if name == "-use-listen-fd" {
                continue;
            }
            let value = words.next().ok_or_else(|| format!("{name} has no value"))?;
            values.insert(name.trim_start_matches('-'), value);
        }
        let value = |name: &str| values.get(name).copied().ok_or_else(|| format!("-{name} is missing"));
        let transport = match value("proto")? {
            "tcp" => Transport::Tcp,
            "udp" => Transport::Udp,
            other => return Err(format!("Rorqual cannot publish {other} ports, only tcp and udp")),
        };
        Ok(Self {
            transport,
            host_address: parsed("host-ip", value("host-ip")?)?,
            host_port: parsed("host-port", value("host-port")?)?,
            container_address: parsed("container-ip", value("container-ip")?)?,
            container_port: parsed("container-port", value("container-port")?)?,
        })
    }

    /// The port as the host receives it.
    pub(super) fn published_port(&self) -> PublishedPort {
        PublishedPort {
            protocol: Protocol::from(self.transport).into(),
            host_address: self.host_address.to_string(),
            host_port: self.host_port.into(),
            container_address: self.container_address.to_string(),
            container_port: self.container_port.into(),
            kind: Kind::Container.into(),
        }
    }
}

fn parsed<T: FromStr>(name: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("-{name} {text} is not valid"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARGUMENTS: &str = "proxy\0-proto\0tcp\0-host-ip\0::\0-host-port\x008080\0-container-ip\x00172.17.0.2\0\
                             -container-port\x0080\0-use-listen-fd\0";

    #[test]
    fn dockerds_arguments_are_understood() {
        let expected = PublishRequest {
            transport: Transport::Tcp,
            host_address: "::".parse().unwrap(),
            host_port: 8080,
            container_address: "172.17.0.2".parse().unwrap(),
            container_port: 80,
        };
        assert_eq!(PublishRequest::parse(ARGUMENTS.as_bytes()), Ok(expected));
    }

    #[test]
    fn what_is_missing_or_cannot_be_published_is_named() {
        let refusal = |arguments: &str| PublishRequest::parse(arguments.as_bytes()).unwrap_err();
        assert_eq!(refusal("proxy\0-proto\0tcp\0"), "-host-ip is missing");
        assert_eq!(refusal("proxy\0-proto\0"), "-proto has no value");
        assert_eq!(refusal(&ARGUMENTS.replace("8080", "70000")), "-host-port 70000 is not valid");
        assert!(refusal(&ARGUMENTS.replace("tcp", "sctp")).contains("sctp"));
        assert!(PublishRequest::parse(&[0xff, 0]).is_err());
    }
}
