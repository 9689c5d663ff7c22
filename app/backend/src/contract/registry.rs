//! Registries and who is logged in at them.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

/// A registry the user is logged in at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct Registry {
    /// `host` or `host:port` as docker keeps it.
    pub host: String,
    /// As whom; empty when the credential store does not say.
    pub user: String,
    /// Where the password is kept: `config.json`, or the name of a credential store.
    pub store: String,
}

/// Logs in. The password goes to docker's credential store and is kept nowhere else.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct RegistryLogin {
    /// `host` or `host:port`; empty is docker's default registry.
    pub host: String,
    /// As whom.
    pub user: String,
    /// Password or token.
    pub password: String,
}

impl std::fmt::Debug for RegistryLogin {
    // Requests are logged; passwords are not.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("RegistryLogin")
            .field("host", &self.host)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// Names a registry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct RegistryTarget {
    /// As in [`Registry`].
    pub host: String,
}
