//! The agent's own commands, which go the way of dockerd's so that the tables kept here know them.

use std::sync::Arc;

use tokio::sync::mpsc;
use tracing::warn;

use super::command::Family;
use super::rules::SharedRules;
use crate::ports::Door;

/// Makes the changes that arrive at `doors`.
pub(super) async fn serve(mut doors: mpsc::UnboundedReceiver<Door>, rules: Arc<SharedRules>) {
    while let Some(Door { rule, done }) = doors.recv().await {
        let rules = Arc::clone(&rules);
        let made = tokio::task::spawn_blocking(move || {
            let words: Vec<&str> = rule.iter().map(String::as_str).collect();
            if let Err(error) = rules.run(Family::Ipv4, &words) {
                warn!("iptables {}: {error}", rule.join(" "));
            }
        });
        if let Err(error) = made.await {
            warn!("cannot change the firewall for a port: {error}");
        }
        // Whoever asked may have gone.
        let _ = done.send(());
    }
}
