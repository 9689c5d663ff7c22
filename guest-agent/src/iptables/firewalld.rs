//! dockerd's firewall without a process for each command: the part of firewalld's D-Bus service that dockerd uses.
//!
//! dockerd runs `iptables` some 200 times at its start. Where firewalld runs, it passes each command to it instead, as
//! a call of `direct.passthrough` on the system bus. The agent is both: the bus, which has this one service, and the
//! service (firewalld.dbus(5)). Zones have no meaning here, so only their names and interfaces are kept.

use std::collections::BTreeSet;
use std::io::{self, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;

use tracing::{info, warn};

use super::command::Family;
use super::dbus::{self, Answer, Call};
use super::rules::SharedRules;

/// Where dockerd finds its system bus.
const SOCKET: &str = "/run/rorqual/firewalld.sock";
/// The address of that bus, for the variable `DBUS_SYSTEM_BUS_ADDRESS`.
pub(crate) const BUS_ADDRESS: &str = "unix:path=/run/rorqual/firewalld.sock";

const BUS: &str = "org.freedesktop.DBus";
const FIREWALL: &str = "org.fedoraproject.FirewallD1";
const DIRECT: &str = "org.fedoraproject.FirewallD1.direct";
const ZONE: &str = "org.fedoraproject.FirewallD1.zone";

const FAILED: &str = "org.fedoraproject.FirewallD1.Exception";
const UNKNOWN_METHOD: &str = "org.freedesktop.DBus.Error.UnknownMethod";
const INVALID_ARGUMENTS: &str = "org.freedesktop.DBus.Error.InvalidArgs";

/// The zone dockerd puts its bridges into.
const DOCKERS_ZONE: &str = "docker";

/// Listens, and answers each client from a thread of its own.
pub(super) fn serve(rules: Arc<SharedRules>) -> io::Result<()> {
    let listener = UnixListener::bind(SOCKET)?;
    std::fs::set_permissions(SOCKET, std::fs::Permissions::from_mode(0o600))?;
    thread("firewalld", move || {
        for client in listener.incoming() {
            let rules = Arc::clone(&rules);
            let started = client.and_then(|client| {
                thread("firewalld-client", move || match serve_client(&client, &rules) {
                    Ok(()) => info!("a client of the firewall has gone"),
                    Err(error) => warn!("a client of the firewall is lost: {error}"),
                })
            });
            if let Err(error) = started {
                warn!("cannot serve a client of the firewall: {error}");
            }
        }
    })
}

fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work).map(drop)
}

fn serve_client(mut client: &UnixStream, rules: &SharedRules) -> io::Result<()> {
    let mut reader = BufReader::new(client);
    dbus::admit(&mut reader, client)?;
    let mut service = Service { rules, bridges: BTreeSet::new() };
    let mut serial = 0_u32;
    while let Some(call) = dbus::next_call(&mut reader)? {
        let answer = service.answer(&call);
        if call.wants_answer {
            serial = serial.wrapping_add(1).max(1);
            client.write_all(&dbus::answer(&call, serial, &answer))?;
        }
    }
    Ok(())
}

struct Service<'a> {
    rules: &'a SharedRules,
    /// The interfaces of dockerd's zone.
    bridges: BTreeSet<String>,
}

impl Service<'_> {
    fn answer(&mut self, call: &Call) -> Answer {
        let strings: Vec<&str> = call.strings.iter().flatten().map(String::as_str).collect();
        match (call.interface.as_str(), call.member.as_str(), strings.as_slice()) {
            (BUS, "Hello", _) => Answer::Text(":1.1".to_owned()),
            // No signal is ever sent, so there is nothing to match.
            (BUS, "AddMatch" | "RemoveMatch", _) => Answer::Nothing,
            (FIREWALL, "getDefaultZone", _) => Answer::Text(DOCKERS_ZONE.to_owned()),
            (ZONE, "getZones", _) => Answer::List(vec![DOCKERS_ZONE.to_owned()]),
            (ZONE, "getInterfaces", _) => Answer::List(self.bridges.iter().cloned().collect()),
            (ZONE, "addInterface", [zone, interface]) => {
                self.bridges.insert((*interface).to_owned());
                Answer::Text((*zone).to_owned())
            }
            (ZONE, "removeInterface", [zone, interface]) => {
                self.bridges.remove(*interface);
                Answer::Text((*zone).to_owned())
            }
            (DIRECT, "passthrough", [family, words @ ..]) => match Family::of_firewalld(family) {
                Some(family) => match self.rules.run(family, words) {
                    Ok(output) => Answer::Text(output),
                    Err(reason) => Answer::Error(FAILED, reason),
                },
                None => Answer::Error(INVALID_ARGUMENTS, format!("{family} is neither ipv4 nor ipv6")),
            },
            // dockerd goes without the policy it would add, as with a firewalld that is too old for policies.
            (interface, member, _) => Answer::Error(UNKNOWN_METHOD, format!("{interface} has no method {member}")),
        }
    }
}
