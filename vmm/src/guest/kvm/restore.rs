//! A guest as its snapshot has it.

use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;

use rorqual_vmm_protocol::{Config, Failure, FailureCode};
use serde::Deserialize;

use super::prepare::Prepared;
use crate::arch::x86_64::{FeatureLeaf, features};
use crate::attachment::mmio::MmioAttachment;
use crate::hypervisor::VirtualMachine;
use crate::hypervisor::kvm::KvmMachine;
use crate::net::record::NetworkRecord;
use crate::snapshot::document::{Document, Shape};
use crate::snapshot::{self, Opened};

/// Opens the snapshot in `directory` and checks that it is one of this machine.
pub(super) fn open(directory: &Path, config: &Config, network: Option<&NetworkRecord>) -> Result<Opened, Failure> {
    let saved = snapshot::open(directory)?;
    let shape =
        Shape::of(config, network).map_err(|error| Failure::internal("read the metadata of the disk images", error))?;
    match saved.document.shape.difference(&shape) {
        Some(difference) => Err(saved.unfit(difference)),
        None if saved.document.memory.bytes != config.memory_mib << 20 => {
            Err(saved.unfit("the size of its memory file differs from the machine's memory"))
        }
        None => Ok(saved),
    }
}

/// The failure of a snapshot whose contents do not fit.
pub(super) fn unfit(reason: impl Display) -> Failure {
    Failure::new(FailureCode::SnapshotInvalid, format!("cannot use the saved state: {reason}"))
}

/// Creates the processors and restores the state of all parts. The devices stay paused.
pub(super) fn processors(
    machine: &KvmMachine,
    cpus: u32,
    document: &Document,
    attachments: &[Arc<MmioAttachment>],
) -> Result<Prepared, Failure> {
    if document.processors.len() != cpus as usize || document.devices.len() != attachments.len() {
        return Err(unfit("its number of processors or devices differs from the machine's"));
    }
    let mut prepared = Prepared { processors: Vec::new(), features: Vec::new() };
    for (number, record) in (0..cpus).zip(&document.processors) {
        let saved = Vec::<FeatureLeaf>::deserialize(&record.features)
            .map_err(|error| unfit(format!("its processor features are invalid: {error}")))?;
        let mut processor = machine.create_processor(number)?;
        let here = features::shape(&processor.host_features()?, number, cpus);
        if let Some(reason) = features::missing(&saved, &here) {
            return Err(unfit(reason));
        }
        processor.set_features(&saved).map_err(unfit)?;
        prepared.processors.push(processor);
        prepared.features.push(saved);
    }
    // Every processor exists before one is restored: interrupts go between them.
    for (processor, record) in prepared.processors.iter_mut().zip(&document.processors) {
        processor.restore(&record.state).map_err(unfit)?;
    }
    for (attachment, saved) in attachments.iter().zip(&document.devices) {
        attachment.restore(saved).map_err(unfit)?;
    }
    machine.restore(&document.machine).map_err(unfit)?;
    Ok(prepared)
}
