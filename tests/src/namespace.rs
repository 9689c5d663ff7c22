//! Simulates another computer: a network namespace at the end of a link of its own. Needs root and `ip`.

use std::process::Command;

use anyhow::Result;

use crate::{command::Run, suite};

/// The namespace, removed when dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    third_octet: u8,
}

impl Namespace {
    /// Creates a namespace, or reports in the test's name why it cannot. Concurrent tests use different octets.
    pub fn for_test(test: &str, third_octet: u8) -> Option<Self> {
        if !nix::unistd::getuid().is_root() {
            suite::skip(test, "network namespaces with links need root");
            return None;
        }
        Self::new(third_octet).inspect_err(|error| suite::skip(test, &format!("{error:#}"))).ok()
    }

    fn new(third_octet: u8) -> Result<Self> {
        let namespace = Self { name: format!("rq{}n{third_octet}", std::process::id()), third_octet };
        let (name, link) = (&namespace.name, namespace.link());
        for line in [
            format!("netns add {name}"),
            format!("link add {link} type veth peer name eth0 netns {name}"),
            format!("address add {}/24 dev {link}", namespace.host()),
            format!("address add {}/64 dev {link} nodad", namespace.host6()),
            format!("link set {link} up"),
            // Without the link there must be no route, not even the host's default route.
            namespace.unreachable("add"),
            format!("-n {name} address add {}/24 dev eth0", namespace.address()),
            format!("-n {name} address add {}/64 dev eth0 nodad", namespace.address6()),
            format!("-n {name} link set eth0 up"),
            format!("-n {name} link set lo up"),
        ] {
            Command::new("ip").args(line.split_whitespace()).run()?.success()?;
        }
        Ok(namespace)
    }

    /// The host's end of the link.
    pub fn link(&self) -> String {
        format!("rq{}l{}", std::process::id(), self.third_octet)
    }

    fn unreachable(&self, action: &str) -> String {
        format!("route {action} unreachable 10.213.{}.0/24 metric 4000", self.third_octet)
    }

    /// Its IPv4 address.
    pub fn address(&self) -> String {
        format!("10.213.{}.2", self.third_octet)
    }

    /// The host's IPv4 address on the link.
    pub fn host(&self) -> String {
        format!("10.213.{}.1", self.third_octet)
    }

    /// Its IPv6 address.
    pub fn address6(&self) -> String {
        format!("fd13:213:{:x}::2", self.third_octet)
    }

    /// The host's IPv6 address on the link.
    pub fn host6(&self) -> String {
        format!("fd13:213:{:x}::1", self.third_octet)
    }

    /// A command that runs in the namespace.
    pub fn command(&self) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]);
        command
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["link", "del", &self.link()]).run();
        let _ = Command::new("ip").args(["netns", "del", &self.name]).run();
        let _ = Command::new("ip").args(self.unreachable("del").split_whitespace()).run();
    }
}
