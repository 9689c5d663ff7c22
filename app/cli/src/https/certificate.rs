//! The certificate of the local authority.

use std::path::PathBuf;

use rorqual_engine::{
    home::Home,
    routes::authority::{Authority, Files},
};

use crate::failure::Failure;

/// The authority's certificate, as trust stores identify it.
pub(super) struct Certificate {
    pub(super) name: String,
    /// SHA-256 fingerprint, in the form browsers show.
    pub(super) fingerprint: String,
    pub(super) pem: String,
    pub(super) path: PathBuf,
}

impl Certificate {
    /// The authority of the state directory; created if it does not exist.
    pub(super) fn open(home: &Home) -> Result<Self, Failure> {
        let authority = Authority::open(home).map_err(|error| Failure::coded(&error))?;
        Ok(Self {
            name: authority.name().to_owned(),
            fingerprint: authority.fingerprint(),
            pem: authority.pem(),
            path: Files::of(home).certificate(),
        })
    }
}
