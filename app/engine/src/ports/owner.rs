//! The process that holds a port of this computer. `/proc/net/tcp`, `udp` and their IPv6 tables list the sockets; the
//! inode of a socket leads to its process.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use super::transport::Transport;

/// A socket that prevents another from listening on an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holder {
    /// Where it is bound.
    pub(crate) address: SocketAddr,
    /// Whether it listens, or receives datagrams from anybody; otherwise it is one end of a connection.
    pub(crate) listens: bool,
    /// Its process; `None` if that belongs to another user, which hides its sockets.
    pub(crate) process: Option<Process>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) id: u32,
    pub(crate) name: String,
}

#[derive(Debug, PartialEq, Eq)]
struct Entry {
    address: SocketAddr,
    listens: bool,
    inode: u64,
}

/// State of a listening socket in the kernel's tables (`TCP_LISTEN`).
const LISTEN: &str = "0A";
/// State of a UDP socket that is not connected (`TCP_CLOSE`).
const UNCONNECTED: &str = "07";

/// The kernel's tables of a transport's sockets.
fn tables(transport: Transport) -> [&'static str; 2] {
    match transport {
        Transport::Tcp => ["/proc/net/tcp", "/proc/net/tcp6"],
        Transport::Udp => ["/proc/net/udp", "/proc/net/udp6"],
    }
}

/// Finds the holder of `wanted`. Reads all of `/proc`, so it blocks for some milliseconds.
pub(crate) fn find(transport: Transport, wanted: SocketAddr) -> Option<Holder> {
    let mut entries = Vec::new();
    for table in tables(transport) {
        // Without IPv6 there is no second table.
        let text = fs::read_to_string(table).unwrap_or_default();
        entries.extend(text.lines().skip(1).filter_map(parse).filter(|entry| conflicts_with(entry.address, wanted)));
    }
    // A listener explains more than a connection that happens to use the port.
    let entry = entries.into_iter().max_by_key(|entry| (entry.listens, entry.inode != 0))?;
    Some(Holder { address: entry.address, listens: entry.listens, process: process_of(entry.inode) })
}

/// Whether a socket at `held` prevents another at `wanted`: the port is the same and the addresses overlap. A socket on
/// :: usually takes IPv4 as well.
fn conflicts_with(held: SocketAddr, wanted: SocketAddr) -> bool {
    let overlap = match (held.ip(), wanted.ip()) {
        (IpAddr::V6(held), wanted) if held.is_unspecified() || wanted.is_unspecified() => {
            held.is_unspecified() || wanted.is_ipv6()
        }
        (held, wanted) if held.is_ipv4() == wanted.is_ipv4() => {
            held == wanted || held.is_unspecified() || wanted.is_unspecified()
        }
        (IpAddr::V6(held), IpAddr::V4(wanted)) => held.to_ipv4_mapped() == Some(wanted),
        _ => false,
    };
    held.port() == wanted.port() && overlap
}

/// One line of a table: `sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode …`.
fn parse(line: &str) -> Option<Entry> {
    let mut fields = line.split_ascii_whitespace();
    let address = parse_address(fields.nth(1)?)?;
    let listens = [LISTEN, UNCONNECTED].contains(&fields.nth(1)?);
    let inode = fields.nth(5)?.parse().ok()?;
    Some(Entry { address, listens, inode })
}

/// An address as the kernel prints it: 32-bit words in the computer's byte order, then the port.
fn parse_address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut bytes = Vec::with_capacity(16);
    for at in (0..address.len()).step_by(8) {
        bytes.extend(u32::from_str_radix(address.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    }
    let ip = match bytes.len() {
        4 => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        _ => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)),
    };
    Some(SocketAddr::new(ip, port))
}

/// The process that has the socket with `inode` open, among those this user may inspect.
fn process_of(inode: u64) -> Option<Process> {
    let wanted = format!("socket:[{inode}]");
    let has_it = |id: u32| {
        let descriptors = fs::read_dir(format!("/proc/{id}/fd")).ok()?;
        let mut links = descriptors.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
        links.any(|link| link.as_os_str() == wanted.as_str()).then_some(id)
    };
    let mut processes = fs::read_dir("/proc").ok()?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let id = processes.find_map(has_it)?;
    let name = fs::read_to_string(format!("/proc/{id}/comm")).unwrap_or_default().trim().to_owned();
    Some(Process { id, name })
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use super::*;

    fn find(wanted: SocketAddr) -> Option<Holder> {
        super::find(Transport::Tcp, wanted)
    }

    #[test]
    fn a_listener_is_found_with_its_process() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let holder = find(address).unwrap();
        assert_eq!((holder.address, holder.listens), (address, true));
        assert_eq!(holder.process.unwrap().id, std::process::id());
        let everywhere = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port());
        assert_eq!(find(everywhere).unwrap().address, address);
        let elsewhere = SocketAddr::new(Ipv4Addr::new(127, 0, 0, 2).into(), address.port());
        assert_eq!(find(elsewhere), None);
    }

    #[test]
    fn a_socket_of_the_other_transport_is_in_nobodys_way() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let holder = super::find(Transport::Udp, address).unwrap();
        assert_eq!((holder.address, holder.listens), (address, true));
        assert_eq!(holder.process.unwrap().id, std::process::id());
        // Another process may have the same number by TCP, but this one does not.
        let other = super::find(Transport::Tcp, address).and_then(|holder| holder.process);
        assert!(other.is_none_or(|process| process.id != std::process::id()));
    }

    #[test]
    fn the_end_of_a_connection_is_found_too() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let holder = find(client.local_addr().unwrap()).unwrap();
        assert!(!holder.listens);
    }

    #[test]
    fn the_tables_are_read_as_the_kernel_writes_them() {
        let line =
            "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 812 1 0 100";
        let expected = Entry { address: "127.0.0.1:8080".parse().unwrap(), listens: true, inode: 812 };
        if cfg!(target_endian = "little") {
            assert_eq!(parse(line), Some(expected));
            let six = parse_address("00000000000000000000000001000000:0050").unwrap();
            assert_eq!(six, "[::1]:80".parse().unwrap());
        }
        for junk in ["", "x", "0: zz:1 0:0 0A", "0: 0100007F"] {
            assert_eq!(parse(junk), None);
        }
    }

    #[test]
    fn addresses_overlap_as_the_kernel_sees_it() {
        let conflicts = |held: &str, wanted: &str| conflicts_with(held.parse().unwrap(), wanted.parse().unwrap());
        assert!(conflicts("0.0.0.0:80", "127.0.0.1:80"));
        assert!(conflicts("[::]:80", "127.0.0.1:80"));
        assert!(conflicts("[::]:80", "[::1]:80"));
        assert!(conflicts("[::ffff:127.0.0.1]:80", "127.0.0.1:80"));
        assert!(!conflicts("[::1]:80", "127.0.0.1:80"));
        assert!(!conflicts("127.0.0.1:80", "[::1]:80"));
        assert!(!conflicts("127.0.0.1:81", "127.0.0.1:80"));
    }
}
