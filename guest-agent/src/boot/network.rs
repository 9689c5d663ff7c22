//! The machine's network card: addresses and routes by rtnetlink (rtnetlink(7)), names in `/etc/resolv.conf`.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::sys::socket::SockProtocol;
use tracing::{info, warn};

use super::command_line::NetworkSettings;
use crate::netlink::{Netlink, add_attribute};

/// The resolver's settings, mounted over `/etc/resolv.conf`.
const RESOLV_CONF: &str = "/etc/resolv.conf";
const CARDS: &str = "/sys/class/net";

const NEW_LINK: u16 = 16;
const NEW_ADDRESS: u16 = 20;
const NEW_ROUTE: u16 = 24;
/// `NLM_F_CREATE`: made if it does not exist.
const CREATE: u16 = 0x400;

const INTERFACE_UP: u32 = 1;
const ADDRESS: u16 = 1;
const LOCAL_ADDRESS: u16 = 2;
const OUT_INTERFACE: u16 = 4;
const GATEWAY: u16 = 5;
/// `IFA_F_NODAD`: no search for a duplicate, since the link has one guest.
const NO_DUPLICATE_SEARCH: u8 = 2;
const MAIN_TABLE: u8 = 254;
const BY_BOOT: u8 = 3;
const UNICAST: u8 = 1;

/// Brings the card up as `settings` describe. A machine without a working card still runs containers, so a failure is
/// only logged.
pub(crate) fn set_up(settings: &NetworkSettings) {
    if settings.v4.is_none() && settings.v6.is_none() {
        return;
    }
    let Some(card) = find_card(Path::new(CARDS)) else {
        warn!("this machine has no network card although it has addresses: containers cannot reach other computers");
        return;
    };
    if let Err(error) = bring_up(&card, settings) {
        warn!("cannot set the network card up: {error:#}; containers cannot reach other computers");
    }
    if let Err(error) = fs::write(RESOLV_CONF, resolv_conf(settings)) {
        warn!("cannot write {RESOLV_CONF}: {error}; names will not be resolved");
    }
}

/// The first card that is a device and not made by the kernel.
fn find_card(cards: &Path) -> Option<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(cards).ok()?.flatten().map(|entry| entry.path()).collect();
    found.retain(|card| card.join("device").exists());
    found.sort();
    found.into_iter().next()
}

fn bring_up(card: &Path, settings: &NetworkSettings) -> Result<()> {
    let index = fs::read_to_string(card.join("ifindex")).context("cannot read its index")?;
    let index: u32 = index.trim().parse().context("its index is not a number")?;
    let name = card.file_name().unwrap_or_default().to_string_lossy().into_owned();
    // All of it is configured here; the kernel must not derive anything from a router's announcements.
    for (setting, value) in [("accept_ra", "0"), ("autoconf", "0"), ("accept_dad", "0")] {
        if let Err(error) = fs::write(format!("/proc/sys/net/ipv6/conf/{name}/{setting}"), value) {
            tracing::debug!("cannot set {setting} of {name}: {error}");
        }
    }
    let mut netlink = Netlink::open(SockProtocol::NetlinkRoute).context("cannot open a netlink socket")?;
    netlink.request(NEW_LINK, 0, &link_up(index)).with_context(|| format!("cannot bring {name} up"))?;
    if let Some(v4) = settings.v4 {
        set_address(&mut netlink, index, v4.own.0.into(), v4.own.1, v4.gateway.into())?;
    }
    if let Some(v6) = settings.v6
        && let Err(error) = set_address(&mut netlink, index, v6.own.0.into(), v6.own.1, v6.gateway.into())
    {
        warn!("this machine has no IPv6: {error:#}");
    }
    info!("{name} is up");
    Ok(())
}

fn resolv_conf(settings: &NetworkSettings) -> String {
    let mut text = String::new();
    // One is enough, and containers without IPv6 can only use the IPv4 one.
    let gateway = settings.v4.map(|v4| IpAddr::from(v4.gateway)).or(settings.v6.map(|v6| v6.gateway.into()));
    if let Some(gateway) = gateway {
        text = format!("nameserver {gateway}\n");
    }
    if !settings.search.is_empty() {
        text = format!("{text}search {}\n", settings.search.join(" "));
    }
    text
}

fn set_address(netlink: &mut Netlink, index: u32, address: IpAddr, prefix: u8, gateway: IpAddr) -> Result<()> {
    make(netlink, NEW_ADDRESS, &new_address(index, address, prefix))
        .with_context(|| format!("cannot set the address {address}/{prefix}"))?;
    make(netlink, NEW_ROUTE, &default_route(index, gateway))
        .with_context(|| format!("cannot set the route by {gateway}"))
}

/// Has the kernel make what may exist already.
fn make(netlink: &mut Netlink, kind: u16, body: &[u8]) -> io::Result<()> {
    match netlink.request(kind, CREATE, body) {
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        other => other,
    }
}

fn link_up(index: u32) -> Vec<u8> {
    // struct ifinfomsg: family, type, index, flags, which of them change.
    let mut body = vec![0; 4];
    for word in [index, INTERFACE_UP, INTERFACE_UP] {
        body.extend(word.to_ne_bytes());
    }
    body
}

fn new_address(index: u32, address: IpAddr, prefix: u8) -> Vec<u8> {
    // struct ifaddrmsg: family, prefix, flags, scope, index.
    let mut body = vec![family(address), prefix, if address.is_ipv6() { NO_DUPLICATE_SEARCH } else { 0 }, 0];
    body.extend(index.to_ne_bytes());
    add_attribute(&mut body, LOCAL_ADDRESS, &octets(address));
    add_attribute(&mut body, ADDRESS, &octets(address));
    body
}

fn default_route(index: u32, gateway: IpAddr) -> Vec<u8> {
    // struct rtmsg: family, bits of destination and source, type of service, table, protocol, scope, type, flags.
    let mut body = vec![family(gateway), 0, 0, 0, MAIN_TABLE, BY_BOOT, 0, UNICAST, 0, 0, 0, 0];
    add_attribute(&mut body, GATEWAY, &octets(gateway));
    add_attribute(&mut body, OUT_INTERFACE, &index.to_ne_bytes());
    body
}

fn family(address: IpAddr) -> u8 {
    (if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }).cast_unsigned() as u8
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::CommandLine;

    #[test]
    fn the_gateway_resolves_and_the_hosts_domains_are_searched() {
        let line =
            "rorqual.net=10.0.0.2/24,10.0.0.1,10.0.0.254 rorqual.net6=fd00::2/64,fd00::1,fd00::fe rorqual.search=a,b.c";
        assert_eq!(resolv_conf(&CommandLine::parse(line).network), "nameserver 10.0.0.1\nsearch a b.c\n");
        assert_eq!(resolv_conf(&NetworkSettings::default()), "");
    }

    #[test]
    fn a_card_is_what_has_a_device() {
        let cards = tempfile::tempdir().unwrap();
        for name in ["dummy0", "eth0/device", "eth1/device", "lo"] {
            fs::create_dir_all(cards.path().join(name)).unwrap();
        }
        assert_eq!(find_card(cards.path()), Some(cards.path().join("eth0")));
        assert_eq!(find_card(Path::new("/nowhere")), None);
    }

    #[test]
    fn the_loopback_device_takes_the_messages_the_kernel_gets() {
        // Without privileges the kernel understands the messages and refuses them. As root they change nothing, since
        // the loopback device is up already.
        let mut netlink = Netlink::open(SockProtocol::NetlinkRoute).unwrap();
        let answer = netlink.request(NEW_LINK, 0, &link_up(u32::MAX >> 1));
        let number = answer.unwrap_err().raw_os_error().unwrap();
        assert!([libc::EPERM, libc::ENODEV].contains(&number), "{number}");
    }
}
