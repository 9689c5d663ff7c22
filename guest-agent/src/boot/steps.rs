//! The steps of this boot and the time each ended, for rpc Health.

use std::sync::{Arc, Mutex, PoisonError};

use rorqual_protocol::agent::BootStep;
use tracing::info;

use crate::clock;

/// The list of steps; clones share it. Each name is kept once, with the time it first ended: a restart of dockerd is
/// not a boot.
#[derive(Clone, Default)]
pub(crate) struct BootSteps(Arc<Mutex<Vec<BootStep>>>);

impl BootSteps {
    /// Records that a step ended now.
    pub(crate) fn ended(&self, name: &str) {
        self.ended_at(name, clock::uptime_ms());
    }

    fn ended_at(&self, name: &str, ended_at_ms: u64) {
        let mut steps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !steps.iter().any(|step| step.name == name) {
            steps.push(BootStep { name: name.to_owned(), ended_at_ms });
            info!("boot: {name} at {ended_at_ms} ms");
        }
    }

    /// All steps so far, in the order they ended.
    pub(crate) fn all(&self) -> Vec<BootStep> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_listed_in_the_order_they_ended() {
        let steps = BootSteps::default();
        steps.ended_at("root", 5);
        steps.clone().ended_at("data", 9);
        let told: Vec<_> = steps.all().into_iter().map(|step| (step.name, step.ended_at_ms)).collect();
        assert_eq!(told, [("root".to_owned(), 5), ("data".to_owned(), 9)]);
    }

    #[test]
    fn a_step_that_happens_again_keeps_its_first_time() {
        let steps = BootSteps::default();
        steps.ended_at("dockerd", 5);
        steps.ended_at("dockerd", 700);
        assert_eq!(steps.all().len(), 1);
        assert_eq!(steps.all()[0].ended_at_ms, 5);
    }
}
