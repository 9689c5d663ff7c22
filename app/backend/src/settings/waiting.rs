//! Finds the settings that wait for a restart: their value in the file differs from the one the running daemon or
//! machine started with.

use std::collections::BTreeMap;

use rorqual_engine::{
    api::{self, machine_status::State},
    config::{
        InEffect,
        keys::{Key, Section, TakesEffect},
    },
    home::MachineName,
};

use crate::Inner;

/// The records of the daemon and of running machines. Without a daemon nothing waits, because the next one reads
/// everything.
#[derive(Default)]
pub(super) struct Running {
    daemon: InEffect,
    machines: BTreeMap<MachineName, Machine>,
}

struct Machine {
    in_effect: InEffect,
    suspended: bool,
}

impl Running {
    pub(super) async fn look(inner: &Inner) -> Self {
        let Ok(mut client) = inner.daemon().await else { return Self::default() };
        let mut machines = BTreeMap::new();
        for name in inner.home.machines().unwrap_or_default() {
            let request = api::StatusRequest { machine: name.to_string() };
            let status = client.status(request).await.ok().and_then(|reply| reply.into_inner().machine);
            let suspended = match status.map_or(State::Stopped, |status| status.state()) {
                State::Stopped | State::Failed | State::Unspecified => continue,
                State::Suspended => true,
                State::Starting | State::Running | State::Degraded | State::Stopping | State::Suspending => false,
            };
            let in_effect = InEffect::load(&inner.home.machine(&name).in_effect());
            machines.insert(name, Machine { in_effect, suspended });
        }
        Self { daemon: InEffect::load(&inner.home.in_effect()), machines }
    }

    /// Whether a key waits; `now` is the parsed file. A key of `config.toml` waits if it does for any machine.
    pub(super) fn waits<T>(
        &self,
        machine: Option<&MachineName>,
        (section, key): (&Section<T>, &Key<T>),
        now: &T,
    ) -> bool {
        let boots = match key.takes_effect {
            TakesEffect::NewMachine | TakesEffect::StartCommand => return false,
            TakesEffect::DaemonStart => return self.daemon.differs(section, key, now),
            TakesEffect::MachineStart => false,
            TakesEffect::MachineBoot => true,
        };
        self.machines.iter().filter(|(name, _)| machine.is_none_or(|machine| machine == *name)).any(|(_, running)| {
            // A resume applies everything that does not need a boot.
            (boots || !running.suspended) && running.in_effect.differs(section, key, now)
        })
    }
}

#[cfg(test)]
mod tests {
    use rorqual_engine::config::{Config, keys};

    use super::*;

    fn waiting(running: &Running, now: &Config) -> Vec<String> {
        let all = keys::CONFIG.iter().flat_map(|section| section.keys.iter().map(move |key| (section, key)));
        all.filter(|pair| running.waits(None, *pair, now)).map(|(section, key)| section.path(key)).collect()
    }

    #[test]
    fn a_changed_setting_waits_for_the_restart_that_applies_it() {
        let mut now = Config::default();
        let in_effect = InEffect::of(&keys::CONFIG, &now);
        let machine =
            |suspended| BTreeMap::from([(MachineName::default(), Machine { in_effect: in_effect.clone(), suspended })]);
        let mut running = Running { daemon: in_effect.clone(), machines: machine(false) };
        assert_eq!(waiting(&running, &now), Vec::<String>::new());
        now.machine.cpus = 7;
        now.network.host_access = false;
        now.network.subnet = Some("10.77.0.0/24".to_owned());
        now.proxy.containers = true;
        now.routes.http_port = 8000;
        assert_eq!(waiting(&running, &now), ["network.subnet", "network.host_access", "routes.http_port"]);
        running.machines = machine(true);
        assert_eq!(waiting(&running, &now), ["network.subnet", "routes.http_port"]);
        // After the machine's restart, the daemon's settings still wait.
        running.machines = BTreeMap::new();
        assert_eq!(waiting(&running, &now), ["routes.http_port"]);
        running.daemon = InEffect::of(&keys::CONFIG, &now);
        assert_eq!(waiting(&running, &now), Vec::<String>::new());
    }
}
