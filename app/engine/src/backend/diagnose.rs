//! Diagnosis.

use std::sync::Arc;

#[allow(clippy::wildcard_imports)]
use super::contract::*;
use super::{Inner, failure, stream::Channel};

pub(super) async fn checks(_: &Arc<Inner>, _: Empty) -> Result<Vec<Check>, Failure> {
    Err(failure::coded("not-there-yet", "this is not there yet", None))
}

pub(super) async fn reset_plans(_: &Arc<Inner>, _: Empty) -> Result<Vec<ResetPlan>, Failure> {
    Err(failure::coded("not-there-yet", "this is not there yet", None))
}

pub(super) async fn bundle(_: Arc<Inner>, _: Empty, _: Channel) -> Result<(), Failure> {
    Err(failure::coded("not-there-yet", "this is not there yet", None))
}

pub(super) async fn reset(_: Arc<Inner>, _: Reset, _: Channel) -> Result<(), Failure> {
    Err(failure::coded("not-there-yet", "this is not there yet", None))
}
