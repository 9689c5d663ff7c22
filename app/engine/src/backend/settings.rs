//! Settings.

use std::sync::Arc;

#[allow(clippy::wildcard_imports)]
use super::contract::*;
use super::{Inner, failure, stream::Channel};

pub(super) async fn get(_: &Arc<Inner>, _: Empty) -> Result<Settings, Failure> {
    Err(failure::coded("not-there-yet", "this is not there yet", None))
}

pub(super) async fn change(_: &Arc<Inner>, _: SettingChange) -> Result<SettingChanged, Failure> {
    Err(failure::coded("not-there-yet", "this is not there yet", None))
}
