//! Files.

use std::sync::Arc;

#[allow(clippy::wildcard_imports)]
use super::contract::*;
use super::{Inner, failure, stream::Channel};

pub(super) async fn list(_: &Arc<Inner>, _: FileTarget) -> Result<FileList, Failure> {
    Err(failure::coded("not-there-yet", "this is not there yet", None))
}

pub(super) async fn remove(_: &Arc<Inner>, _: FileTarget) -> Result<Empty, Failure> {
    Err(failure::coded("not-there-yet", "this is not there yet", None))
}

pub(super) async fn create_folder(_: &Arc<Inner>, _: FileTarget) -> Result<Empty, Failure> {
    Err(failure::coded("not-there-yet", "this is not there yet", None))
}

pub(super) async fn move_file(_: &Arc<Inner>, _: FileMove) -> Result<Empty, Failure> {
    Err(failure::coded("not-there-yet", "this is not there yet", None))
}

pub(super) async fn host_folder(_: &Arc<Inner>, _: HostFolderTarget) -> Result<HostFolder, Failure> {
    Err(failure::coded("not-there-yet", "this is not there yet", None))
}

pub(super) async fn read(_: Arc<Inner>, _: FileTarget, _: Channel) -> Result<(), Failure> {
    Err(failure::coded("not-there-yet", "this is not there yet", None))
}

pub(super) async fn write(_: Arc<Inner>, _: FileWrite, _: Channel) -> Result<(), Failure> {
    Err(failure::coded("not-there-yet", "this is not there yet", None))
}
