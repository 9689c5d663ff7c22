//! Registries and the user's logins.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

/// A registry the user is logged in to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct Registry {
    /// `host` or `host:port`, as Docker stores it.
    pub host: String,
    /// User name; empty when the credential store does not provide it.
    pub user: String,
    /// Where the password is stored: `config.json`, or the name of a credential store.
    pub store: String,
}

/// Logs in. The password is stored in Docker's credential store only.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct RegistryLogin {
    /// `host` or `host:port`; empty means Docker's default registry.
    pub host: String,
    /// User name.
    pub user: String,
    /// Password or token.
    pub password: String,
}

impl std::fmt::Debug for RegistryLogin {
    // Requests are logged; passwords must not be.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("RegistryLogin")
            .field("host", &self.host)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// Identifies a registry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct RegistryTarget {
    /// As [`Registry`] has it.
    pub host: String,
}
