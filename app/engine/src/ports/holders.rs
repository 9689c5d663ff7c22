//! What of Rorqual listens where: the ports of all machines, and lodgers, which give their port up for a container.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{sync::Notify, task::JoinHandle};

use super::transport::Transport;

/// What of Rorqual listens where. Shared by all machines and by the names of containers ([`crate::routes`]).
#[derive(Clone, Debug, Default)]
pub(crate) struct Holders(Arc<Held>);

#[derive(Debug, Default)]
struct Held {
    /// Every address Rorqual holds, with a description of the holder.
    addresses: Mutex<HashMap<(Transport, SocketAddr), String>>,
    /// Listeners on ports that no container wants at present.
    lodgers: Mutex<Lodgers>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct Lodgers {
    listening: HashMap<u16, Vec<JoinHandle<()>>>,
    /// Ports given up for a container.
    evicted: HashSet<u16>,
}

impl Holders {
    /// Records that `address` is held, and by what.
    pub(crate) fn insert(&self, transport: Transport, address: SocketAddr, description: String) {
        self.addresses().insert((transport, address), description);
    }

    /// Records that `address` is free again.
    pub(super) fn remove(&self, transport: Transport, address: SocketAddr) {
        self.addresses().remove(&(transport, address));
        if transport == Transport::Tcp && self.lodgers().evicted.contains(&address.port()) {
            self.0.freed.notify_one();
        }
    }

    /// What of Rorqual holds an address that conflicts with `wanted`.
    pub(super) fn describe(&self, transport: Transport, wanted: SocketAddr) -> Option<String> {
        let held = self.addresses();
        let overlaps = |address: &SocketAddr| {
            let (ip, other) = (address.ip(), wanted.ip());
            address.port() == wanted.port()
                && ip.is_ipv4() == other.is_ipv4()
                && (ip == other || ip.is_unspecified() || other.is_unspecified())
        };
        let ((_, address), description) =
            held.iter().find(|((of, address), _)| *of == transport && overlaps(address))?;
        Some(format!("{description} holds {address}"))
    }

    /// Lets the tasks that `open` starts listen on `port` until a container wants it. An eviction waits for `open`, so
    /// that no container meets a lodger that is half open.
    ///
    /// # Errors
    ///
    /// That of `open`.
    pub(crate) fn lodge<E>(&self, port: u16, open: impl FnOnce() -> Result<Vec<JoinHandle<()>>, E>) -> Result<(), E> {
        let mut lodgers = self.lodgers();
        let tasks = open()?;
        lodgers.evicted.remove(&port);
        lodgers.listening.insert(port, tasks);
        Ok(())
    }

    /// Whether a lodger listens on `port`.
    pub(crate) fn has_lodger(&self, port: u16) -> bool {
        self.lodgers().listening.contains_key(&port)
    }

    /// Ends the lodger of `port`, if any.
    pub(crate) fn dismiss(&self, port: u16) {
        for task in self.lodgers().listening.remove(&port).into_iter().flatten() {
            task.abort();
        }
    }

    /// Frees `port` of its lodger and returns whether there was one.
    pub(super) async fn evict(&self, port: u16) -> bool {
        let tasks = {
            let mut lodgers = self.lodgers();
            let Some(tasks) = lodgers.listening.remove(&port) else { return false };
            lodgers.evicted.insert(port);
            tasks
        };
        for task in tasks {
            task.abort();
            // It can only end as aborted, and the port is free then.
            let _ = task.await;
        }
        true
    }

    /// Returns when a container has released a port that a lodger had before.
    pub(crate) async fn freed(&self) {
        self.0.freed.notified().await;
    }

    fn addresses(&self) -> MutexGuard<'_, HashMap<(Transport, SocketAddr), String>> {
        self.0.addresses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lodgers(&self) -> MutexGuard<'_, Lodgers> {
        self.0.lodgers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
