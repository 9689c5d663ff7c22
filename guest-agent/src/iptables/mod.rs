//! iptables for dockerd without a process for each command.
//!
//! dockerd passes its commands to the firewalld it finds ([`firewalld`], over [`dbus`]), and [`rules`] carries them
//! out. A check, a listing or the deletion of a missing rule is answered from the [`tables`] kept here. Changes go as a
//! line to an `iptables-restore` that stays running ([`restore`]), so the kernel's rules are always the real program's
//! work. Anything but the few forms dockerd uses is left to the real program altogether, as is what dockerd does in the
//! network namespace of a container.
//!
//! The agent adds one rule per family of its own ([`host`]), and rules for some ports ([`doors`]).
//!
//! The tables kept here start empty, as the kernel's do, and follow every command of dockerd. They miss a rule that
//! another program adds: dockerd then adds it again, which does no harm.

mod command;
mod dbus;
mod dnat;
mod doors;
mod firewalld;
mod host;
mod ingress;
mod published;
mod restore;
mod rules;
mod tables;

use std::io;
use std::sync::Arc;

pub(crate) use firewalld::BUS_ADDRESS;

use crate::boot::NetworkSettings;
use crate::ports::{Ingress, Ports};
use crate::processes::Processes;

/// Serves dockerd's firewall. To be called in the runtime, before dockerd starts.
///
/// # Errors
/// The socket cannot be made. dockerd would then run iptables itself, and no port would be published on the host.
pub(crate) fn serve(processes: Processes, network: &NetworkSettings, ports: Ports, ingress: Ingress) -> io::Result<()> {
    let (sender, doors) = tokio::sync::mpsc::unbounded_channel();
    ports.make_rules_by(sender);
    let rules = Arc::new(rules::SharedRules::new(processes, network, ports, ingress));
    tokio::spawn(doors::serve(doors, Arc::clone(&rules)));
    firewalld::serve(rules)
}
