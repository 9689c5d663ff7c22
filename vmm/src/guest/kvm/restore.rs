//! A guest as its snapshot has it.

use std::path::Path;
use std::sync::Arc;

use rorqual_vmm_protocol::{Config, Failure, FailureCode};
use serde::Deserialize;

use super::prepare::Prepared;
use crate::arch::x86_64::{FeatureLeaf, features};
use crate::attachment::mmio::MmioAttachment;
use crate::hypervisor::kvm::KvmMachine;
use crate::hypervisor::{HypervisorError, VirtualMachine};
use crate::net::record::NetworkRecord;
use crate::snapshot::document::{Document, Shape};
use crate::snapshot::{self, Opened};

/// Opens the snapshot in `directory` and checks that it is one of this machine.
pub(super) fn open(directory: &Path, config: &Config, network: Option<&NetworkRecord>) -> Result<Opened, Failure> {
    let saved = snapshot::open(directory)?;
    let shape =
        Shape::of(config, network).map_err(|error| Failure::internal("read the size of the disk images", error))?;
    match saved.document.shape.difference(&shape) {
        Some(difference) => Err(saved.unfit(difference)),
        None if saved.document.memory.bytes != config.memory_mib << 20 => {
            Err(saved.unfit("the size of its memory file differs from the machine's memory"))
        }
        None => Ok(saved),
    }
}

/// Creates the processors and restores the state of all parts. The devices stay paused.
pub(super) fn processors(
    machine: &KvmMachine,
    cpus: u32,
    document: &Document,
    attachments: &[Arc<MmioAttachment>],
) -> Result<Prepared, Failure> {
    let unfit =
        |reason: String| Failure::new(FailureCode::SnapshotInvalid, format!("cannot use the saved state: {reason}"));
    let refused = |error: HypervisorError| unfit(error.to_string());
    if document.processors.len() != cpus as usize || document.devices.len() != attachments.len() {
        return Err(unfit("its number of processors or devices differs from the machine's".to_owned()));
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
        processor.set_features(&saved).map_err(refused)?;
        prepared.processors.push(processor);
        prepared.features.push(saved);
    }
    // Every processor exists before one is restored: interrupts go between them.
    for (processor, record) in prepared.processors.iter_mut().zip(&document.processors) {
        processor.restore(&record.state).map_err(refused)?;
    }
    for (attachment, saved) in attachments.iter().zip(&document.devices) {
        attachment.restore(saved).map_err(unfit)?;
    }
    machine.restore(&document.machine).map_err(refused)?;
    Ok(prepared)
}
