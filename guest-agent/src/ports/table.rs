//! Which ports are published, and the host's verdict on each: the rules alone, without sockets or time.
//!
//! A port is *asked* while its proxy waits for a verdict and *settled* after it. While no host is connected, ports are
//! settled as bound, so that containers run without a daemon; the next host receives all of them.

use std::collections::BTreeMap;

use rorqual_protocol::agent::{
    PortChange, PortVerdict, PublishedPort,
    port_change::Change,
    published_port::{Kind, Protocol},
};

/// Number of a published port, never used twice in one boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PortId(u64);

/// Number of a host's call, to distinguish a call that ended from the one that replaced it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HostId(u64);

/// The answer to a proxy; the error is for the user.
pub(super) type Verdict = Result<(), String>;

/// A refusal of a port whose proxy already has its answer. Only the log can show it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LateRefusal {
    pub(super) port: PublishedPort,
    pub(super) reason: String,
}

/// The table. `Waiter` receives a verdict, `Host` receives changes.
pub(super) struct PortTable<Waiter, Host> {
    ports: BTreeMap<PortId, Entry<Waiter>>,
    next_port: u64,
    host: Option<(HostId, Host)>,
    next_host: u64,
}

struct Entry<Waiter> {
    port: PublishedPort,
    /// Present while the port is asked, absent once it is settled.
    waiter: Option<Waiter>,
}

impl<Waiter, Host> Default for PortTable<Waiter, Host> {
    fn default() -> Self {
        Self { ports: BTreeMap::new(), next_port: 1, host: None, next_host: 1 }
    }
}

impl<Waiter: FnOnce(Verdict), Host: Fn(PortChange)> PortTable<Waiter, Host> {
    /// Publishes `port`. `waiter` receives the verdict, at once if no host is connected.
    pub(super) fn publish(&mut self, port: PublishedPort, waiter: Waiter) -> PortId {
        let id = PortId(self.next_port);
        self.next_port += 1;
        let waiter = match &self.host {
            Some((_, host)) => {
                host(change(id, Change::Open(port.clone())));
                Some(waiter)
            }
            None => {
                waiter(Ok(()));
                None
            }
        };
        self.ports.insert(id, Entry { port, waiter });
        id
    }

    /// Whether docker publishes that port, at any address.
    pub(super) fn docker_publishes(&self, protocol: Protocol, number: u16) -> bool {
        self.ports.values().map(|entry| &entry.port).any(|port| {
            port.kind() != Kind::HostNetwork && port.protocol() == protocol && port.host_port == u32::from(number)
        })
    }

    /// Removes a port: its proxy ended, or its verdict came too late.
    pub(super) fn unpublish(&mut self, id: PortId) {
        if self.ports.remove(&id).is_some()
            && let Some((_, host)) = &self.host
        {
            host(change(id, Change::Close(true)));
        }
    }

    /// Connects a host, which replaces the one before and receives every published port. Ports still asked are asked of
    /// it.
    pub(super) fn host_connected(&mut self, host: Host) -> HostId {
        let id = HostId(self.next_host);
        self.next_host += 1;
        for (port, entry) in &self.ports {
            host(change(*port, Change::Open(entry.port.clone())));
        }
        host(PortChange { id: 0, change: Some(Change::Synchronized(true)) });
        self.host = Some((id, host));
        id
    }

    /// Ends a host's call. Ports still asked of it are settled as bound.
    pub(super) fn host_disconnected(&mut self, id: HostId) {
        if !self.host.as_ref().is_some_and(|(current, _)| *current == id) {
            return;
        }
        self.host = None;
        for entry in self.ports.values_mut() {
            if let Some(waiter) = entry.waiter.take() {
                waiter(Ok(()));
            }
        }
    }

    /// Accepts a verdict of the host `from`. Returns one that refuses a port already settled, for the log.
    pub(super) fn verdict(&mut self, from: HostId, verdict: PortVerdict) -> Option<LateRefusal> {
        if !self.host.as_ref().is_some_and(|(current, _)| *current == from) {
            return None;
        }
        let entry = self.ports.get_mut(&PortId(verdict.id))?;
        let answer = if verdict.bound { Ok(()) } else { Err(verdict.reason) };
        match (entry.waiter.take(), answer) {
            (Some(waiter), answer) => {
                waiter(answer);
                None
            }
            (None, Err(reason)) => Some(LateRefusal { port: entry.port.clone(), reason }),
            (None, Ok(())) => None,
        }
    }
}

fn change(id: PortId, change: Change) -> PortChange {
    PortChange { id: id.0, change: Some(change) }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;

    type Received = Rc<RefCell<Vec<PortChange>>>;
    type Answers = Rc<RefCell<Vec<Verdict>>>;
    type Table = PortTable<Box<dyn FnOnce(Verdict)>, Box<dyn Fn(PortChange)>>;

    fn port(number: u32) -> PublishedPort {
        PublishedPort { host_port: number, ..PublishedPort::default() }
    }

    fn publish(table: &mut Table, number: u32) -> (PortId, Answers) {
        let answers = Answers::default();
        let noted = Rc::clone(&answers);
        (table.publish(port(number), Box::new(move |verdict| noted.borrow_mut().push(verdict))), answers)
    }

    fn call(table: &mut Table) -> (HostId, Received) {
        let received = Received::default();
        let noted = Rc::clone(&received);
        (table.host_connected(Box::new(move |change| noted.borrow_mut().push(change))), received)
    }

    fn open(id: PortId, number: u32) -> PortChange {
        change(id, Change::Open(port(number)))
    }

    fn synchronized() -> PortChange {
        PortChange { id: 0, change: Some(Change::Synchronized(true)) }
    }

    fn bound(id: PortId) -> PortVerdict {
        PortVerdict { id: id.0, bound: true, reason: String::new() }
    }

    fn refused(id: PortId) -> PortVerdict {
        PortVerdict { id: id.0, bound: false, reason: "in use".to_owned() }
    }

    #[test]
    fn without_a_host_a_port_is_bound_at_once() {
        let mut table = Table::default();
        let (_, answers) = publish(&mut table, 80);
        assert_eq!(*answers.borrow(), [Ok(())]);
    }

    #[test]
    fn a_host_that_connects_receives_every_port_and_then_the_end_of_the_list() {
        let mut table = Table::default();
        let (first, _) = publish(&mut table, 80);
        let (second, _) = publish(&mut table, 81);
        let (_, told) = call(&mut table);
        assert_eq!(*told.borrow(), [open(first, 80), open(second, 81), synchronized()]);
    }

    #[test]
    fn the_hosts_verdict_is_the_proxys_answer() {
        let mut table = Table::default();
        let (host, told) = call(&mut table);
        let (good, good_answers) = publish(&mut table, 80);
        let (bad, bad_answers) = publish(&mut table, 81);
        assert!(good_answers.borrow().is_empty());
        assert_eq!(told.borrow()[1..], [open(good, 80), open(bad, 81)]);
        assert_eq!(table.verdict(host, refused(bad)), None);
        assert_eq!(table.verdict(host, bound(good)), None);
        assert_eq!(*good_answers.borrow(), [Ok(())]);
        assert_eq!(*bad_answers.borrow(), [Err("in use".to_owned())]);
    }

    #[test]
    fn an_unpublished_port_is_closed_once() {
        let mut table = Table::default();
        let (_, told) = call(&mut table);
        let (id, _) = publish(&mut table, 80);
        table.unpublish(id);
        table.unpublish(id);
        assert_eq!(told.borrow()[2..], [change(id, Change::Close(true))]);
    }

    #[test]
    fn a_host_that_disconnects_settles_what_was_asked_of_it() {
        let mut table = Table::default();
        let (host, _) = call(&mut table);
        let (_, answers) = publish(&mut table, 80);
        table.host_disconnected(host);
        assert_eq!(*answers.borrow(), [Ok(())]);
    }

    #[test]
    fn a_new_call_takes_over_and_the_old_one_is_ignored() {
        let mut table = Table::default();
        let (old, old_told) = call(&mut table);
        let (id, answers) = publish(&mut table, 80);
        let (new, new_told) = call(&mut table);
        assert_eq!(*new_told.borrow(), [open(id, 80), synchronized()]);
        table.host_disconnected(old);
        assert_eq!(table.verdict(old, bound(id)), None);
        assert!(answers.borrow().is_empty());
        table.verdict(new, refused(id));
        assert_eq!(*answers.borrow(), [Err("in use".to_owned())]);
        publish(&mut table, 81);
        assert_eq!(old_told.borrow().len(), 2);
    }

    #[test]
    fn a_refusal_after_the_answer_is_only_returned_for_the_log() {
        let mut table = Table::default();
        let (id, answers) = publish(&mut table, 80);
        let (host, _) = call(&mut table);
        let late = table.verdict(host, refused(id));
        assert_eq!(late, Some(LateRefusal { port: port(80), reason: "in use".to_owned() }));
        assert_eq!(answers.borrow().len(), 1);
        assert_eq!(table.verdict(host, bound(id)), None);
    }

    #[test]
    fn a_verdict_for_a_port_that_is_gone_is_ignored() {
        let mut table = Table::default();
        let (host, _) = call(&mut table);
        let (id, answers) = publish(&mut table, 80);
        table.unpublish(id);
        assert_eq!(table.verdict(host, refused(id)), None);
        assert!(answers.borrow().is_empty());
    }

    #[test]
    fn ports_of_docker_are_distinguished_from_programs_that_listen() {
        let mut table = Table::default();
        let of = |host_port, kind: Kind| PublishedPort {
            protocol: Protocol::Tcp.into(),
            host_port,
            kind: kind.into(),
            ..PublishedPort::default()
        };
        let id = table.publish(of(80, Kind::Container), Box::new(drop));
        table.publish(of(81, Kind::HostNetwork), Box::new(drop));
        assert!(table.docker_publishes(Protocol::Tcp, 80));
        assert!(!table.docker_publishes(Protocol::Udp, 80));
        assert!(!table.docker_publishes(Protocol::Tcp, 81));
        table.unpublish(id);
        assert!(!table.docker_publishes(Protocol::Tcp, 80));
    }

    #[test]
    fn a_number_is_never_used_twice() {
        let mut table = Table::default();
        let (first, _) = publish(&mut table, 80);
        table.unpublish(first);
        let (second, _) = publish(&mut table, 80);
        assert_ne!(first, second);
    }
}
