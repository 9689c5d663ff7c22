//! Free ports of this computer. If another program takes one before the test does, the test fails.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket},
};

use anyhow::{Result, bail};

/// `port` of the IPv4 loopback address.
pub fn v4(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// `port` of the IPv6 loopback address.
pub fn v6(port: u16) -> SocketAddr {
    (Ipv6Addr::LOCALHOST, port).into()
}

/// A free TCP port of the IPv4 loopback address.
pub fn free() -> Result<u16> {
    Ok(TcpListener::bind(v4(0))?.local_addr()?.port())
}

/// The first of `count` consecutive TCP ports that are free on both loopback addresses.
pub fn free_tcp(count: u16) -> Result<u16> {
    side_by_side(count, |address| TcpListener::bind(address)?.local_addr())
}

/// The same for UDP.
pub fn free_udp(count: u16) -> Result<u16> {
    side_by_side(count, |address| UdpSocket::bind(address)?.local_addr())
}

fn side_by_side(count: u16, bind: impl Fn(SocketAddr) -> io::Result<SocketAddr>) -> Result<u16> {
    for _ in 0..200 {
        let first = bind(v4(0))?.port();
        let free = |port: u16| bind(v4(port)).is_ok() && bind(v6(port)).is_ok();
        if first.checked_add(count).is_some() && (first..first + count).all(free) {
            return Ok(first);
        }
    }
    bail!("no {count} free ports side by side")
}
