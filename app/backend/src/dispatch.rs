//! Maps the names in the contract's table to handlers. The table fixes the types of each, so a handler with other types
//! does not compile.

use std::sync::Arc;

use serde_json::Value;

use super::{
    Inner, app, build,
    containers::{detail, verbs},
    contract::{self, each_call, each_stream},
    diagnose, failure, files, images, lists, logs, machine, networks, pull, registries, run, samples, settings,
    stream::{Channel, OpenStream, parse},
    terminal, volumes,
};
use crate::contract::Failure;

type Handled<T> = Result<T, Failure>;

macro_rules! calls {
    ($($name:literal: $params:ty => $result:ty, $handler:path; $about:literal)*) => {
        /// Handles a call.
        pub(super) async fn call(inner: &Arc<Inner>, name: &str, params: Value) -> Handled<Value> {
            #[allow(clippy::wildcard_imports, reason = "the table's types are the contract's")]
            use contract::*;
            match name {
                $($name => {
                    let params: $params = parse(params)?;
                    let result: $result = $handler(inner, params).await?;
                    serde_json::to_value(result).map_err(|error| failure::unexpected(error.to_string()))
                })*
                _ => Err(failure::bad_request(format!("unknown call {name:?}"))),
            }
        }
    };
}
each_call!(calls);

macro_rules! streams {
    ($($name:literal: $params:ty => $event:ty, $input:ty, $handler:path; $about:literal)*) => {
        async fn serve(inner: Arc<Inner>, name: String, params: Value, channel: Channel) -> Handled<()> {
            #[allow(clippy::wildcard_imports, reason = "the table's types are the contract's")]
            use contract::*;
            match name.as_str() {
                $($name => {
                    let params: $params = parse(params)?;
                    $handler(inner, params, channel).await
                })*
                _ => Err(failure::bad_request(format!("unknown stream {name:?}"))),
            }
        }
    };
}
each_stream!(streams);

/// Opens a stream.
pub(super) fn open(inner: Arc<Inner>, name: String, params: Value) -> OpenStream {
    OpenStream::spawn(move |channel| serve(inner, name, params, channel))
}
