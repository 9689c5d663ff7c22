//! The face of the backend to a transport: calls and streams by their names in the contract.

use std::{path::PathBuf, sync::Arc};

use rorqual_engine::home::Home;
use serde_json::Value;

use crate::{
    Inner,
    contract::{Failure, Platform},
    dispatch,
    stream::OpenStream,
};

/// A handle for every call and stream. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Backend(Arc<Inner>);

impl Backend {
    /// The backend for the state directory `home`. `program` is the path of the command line, which runs the daemon.
    pub fn new(home: Home, platform: Platform, program: PathBuf) -> Self {
        Self(Arc::new(Inner::new(home, platform, program)))
    }

    /// Handles a call of the contract's table.
    ///
    /// # Errors
    ///
    /// A failure to show on the page; `bad-request` for an unknown name.
    pub async fn call(&self, name: &str, params: Value) -> Result<Value, Failure> {
        dispatch::call(&self.0, name, params).await
    }

    /// Opens a stream of the contract's table. Must be called within a runtime. A failure is its last output.
    pub fn open(&self, name: &str, params: Value) -> OpenStream {
        dispatch::open(self.0.clone(), name.to_owned(), params)
    }
}
