//! Why a published port does not listen on this computer.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use thiserror::Error;

use super::transport::Transport;
use crate::{error::Coded, monitor::ControlError};

/// Why a container cannot have a port.
#[derive(Debug, Error)]
pub(crate) enum PortError {
    /// Another socket has the address.
    #[error("address already in use: {holder}")]
    InUse {
        /// The owner, and its address.
        holder: String,
        /// The advice.
        fix: String,
    },
    /// The system leaves low ports to root.
    #[error("listening on port {port} needs a privilege on this computer")]
    Privileged {
        /// The port.
        port: u16,
        /// Of which transport.
        transport: Transport,
    },
    /// The address belongs to another computer.
    #[error("this computer has no address {0}")]
    NoAddress(IpAddr),
    /// The computer has no IPv6.
    #[error("cannot listen on {0}: IPv6 is turned off on this computer")]
    NoIpv6(SocketAddr),
    /// The daemon has no descriptor left.
    #[error("cannot listen on {0}: the daemon has reached its limit of open files and connections")]
    DescriptorLimit(SocketAddr),
    /// The system refused for another reason.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
    /// The guest asked for an invalid port.
    #[error("{0}")]
    Invalid(String),
    /// The monitor did not take the socket.
    #[error("the UDP port cannot be published: {0}")]
    Gateway(#[from] ControlError),
}

impl Coded for PortError {
    fn code(&self) -> &'static str {
        match self {
            Self::InUse { .. } => "port-in-use",
            Self::Privileged { .. } => "port-privileged",
            Self::NoAddress(_) => "address-unknown",
            Self::NoIpv6(_) | Self::DescriptorLimit(_) | Self::Listen { .. } | Self::Gateway(_) => "port-unusable",
            Self::Invalid(_) => "port-invalid",
        }
    }

    fn fix(&self) -> Option<String> {
        Some(match self {
            Self::InUse { fix, .. } => fix.clone(),
            Self::Privileged { port, transport } => format!(
                "publish another port, such as -p {}:…{}, or allow this one for every user with `sudo sysctl -w \
                 net.ipv4.ip_unprivileged_port_start={port}`",
                port.checked_add(8000).unwrap_or(8080),
                if *transport == Transport::Udp { "/udp" } else { "" }
            ),
            Self::NoAddress(_) => {
                "list the addresses of this computer with `ip address`, and use one of them".to_owned()
            }
            Self::NoIpv6(_) => "publish the port on an IPv4 address".to_owned(),
            Self::DescriptorLimit(_) => {
                "raise the limit (ulimit -n, or LimitNOFILE of the daemon's service) and restart the daemon".to_owned()
            }
            Self::Listen { .. } => "choose another port or address".to_owned(),
            Self::Invalid(_) => return None,
            Self::Gateway(error) => {
                return Some(error.fix().unwrap_or_else(|| "restart the machine with `rorqual restart`".to_owned()));
            }
        })
    }
}

#[cfg(test)]
crate::error::tests::samples!(PortError {
    InUse => Self::InUse { holder: "nginx (process 7) listens on 127.0.0.1:80".to_owned(), fix: "stop it".to_owned() },
    Privileged => Self::Privileged { port: 80, transport: Transport::Udp },
    NoAddress => Self::NoAddress([192, 0, 2, 77].into()),
    NoIpv6 => Self::NoIpv6("[::1]:80".parse().unwrap()),
    DescriptorLimit => Self::DescriptorLimit("127.0.0.1:80".parse().unwrap()),
    Listen => Self::Listen { address: "127.0.0.1:80".parse().unwrap(), source: crate::error::tests::refusal() },
    Invalid => Self::Invalid("70000 is not a host port".to_owned()),
    Gateway => Self::Gateway(io::Error::from(io::ErrorKind::TimedOut).into()),
});
