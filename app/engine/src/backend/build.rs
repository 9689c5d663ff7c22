//! Builds.

use std::sync::Arc;

#[allow(clippy::wildcard_imports)]
use super::contract::*;
use super::{Inner, failure, stream::Channel};

pub(super) async fn history(_: &Arc<Inner>, _: Empty) -> Result<Vec<BuildRecord>, Failure> {
    Err(failure::coded("not-there-yet", "this is not there yet", None))
}

pub(super) async fn inspect(_: &Arc<Inner>, _: BuildTarget) -> Result<BuildDetail, Failure> {
    Err(failure::coded("not-there-yet", "this is not there yet", None))
}

pub(super) async fn remove(_: &Arc<Inner>, _: BuildTarget) -> Result<Empty, Failure> {
    Err(failure::coded("not-there-yet", "this is not there yet", None))
}

pub(super) async fn prune_cache(_: &Arc<Inner>, _: Empty) -> Result<Pruned, Failure> {
    Err(failure::coded("not-there-yet", "this is not there yet", None))
}

pub(super) async fn run(_: Arc<Inner>, _: BuildRun, _: Channel) -> Result<(), Failure> {
    Err(failure::coded("not-there-yet", "this is not there yet", None))
}
