//! Pausing a guest and writing it to a snapshot.

use std::io;
use std::path::Path;

use rorqual_vmm_protocol::{Failure, FailureCode};
use tracing::error;

use super::guest::KvmGuest;
use crate::guest::Pausable;
use crate::hypervisor::VirtualMachine;
use crate::snapshot;
use crate::snapshot::document::{Document, ProcessorRecord, Shape};
use crate::snapshot::memory::{self, Progress};

impl Pausable for KvmGuest {
    fn pause(&self) {
        self.processors.pause();
        self.attachments.iter().for_each(|attachment| attachment.pause());
    }

    fn resume(&self) {
        self.attachments.iter().for_each(|attachment| attachment.resume());
        self.processors.resume();
    }

    fn save(&self, directory: &Path, progress: &mut Progress<'_>) -> Result<(), Failure> {
        let saved = self.write_snapshot(directory, progress);
        if saved.is_err() {
            // The first failure is the one to return.
            if let Err(failure) = snapshot::remove(directory) {
                error!("the incomplete snapshot stays behind: {failure}");
            }
        }
        saved
    }
}

impl KvmGuest {
    fn write_snapshot(&self, directory: &Path, progress: &mut Progress<'_>) -> Result<(), Failure> {
        let unwritten = |error: serde_json::Error| Failure::internal("serialize the machine's state", error);
        let processors = self.processors.each(|processor| processor.save())?;
        let machine = self.machine.save()?;
        let board = self.board.save().map_err(unwritten)?;
        let devices = self.attachments.iter().map(|attachment| attachment.save());
        let devices = devices.collect::<Result<_, _>>().map_err(unwritten)?;
        let features = self.features.iter().map(serde_json::to_value);
        let features = features.collect::<Result<Vec<_>, _>>().map_err(unwritten)?;
        let file = snapshot::create_memory(directory)?;
        let memory = memory::write(&self.memory, &self.page_map, &file, progress)
            .map_err(|error| memory_not_written(directory, &error))?;
        let shape = Shape::of(&self.config, self.network.as_ref());
        let document = Document {
            monitor: env!("CARGO_PKG_VERSION").to_owned(),
            shape: shape.map_err(|error| Failure::internal("read the metadata of the disk images", error))?,
            memory,
            processors: features
                .into_iter()
                .zip(processors)
                .map(|(features, state)| ProcessorRecord { features, state })
                .collect(),
            machine,
            board,
            devices,
        };
        snapshot::commit(directory, &document)
    }
}

fn memory_not_written(directory: &Path, error: &io::Error) -> Failure {
    let failure = |reason: &str| {
        let message = format!("cannot write the guest's memory to {}: {reason}", directory.display());
        Failure::new(FailureCode::Internal, message)
    };
    match error.kind() {
        io::ErrorKind::StorageFull => {
            failure("the disk is full").with_fix("free some space, or stop the machine instead")
        }
        io::ErrorKind::Interrupted => failure("it was cancelled"),
        _ => failure(&error.to_string()),
    }
}
