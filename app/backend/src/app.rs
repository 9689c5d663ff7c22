//! The application, and the engine's disk usage and events.

use std::{fs, path::PathBuf, sync::Arc};

use rorqual_engine::docker::{Query, model};
use serde::Deserialize;
use serde_json::Value;

use super::{
    Inner,
    contract::{Bytes, DiskUsage, Empty, EngineEvent, Failure, Information, Timestamp, Usage},
    failure,
    labels::pairs,
    stream::Channel,
};

pub(super) async fn information(inner: &Arc<Inner>, _: Empty) -> Result<Information, Failure> {
    Ok(Information {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        platform: inner.platform,
        home: inner.home.root().display().to_string(),
        cpus: std::thread::available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(u32::MAX)),
        memory: Bytes(host_memory()),
        first_run: !first_run_mark(inner).exists(),
    })
}

/// Memory of this computer; 0 if the system does not report it.
fn host_memory() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kibibytes =
        text.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kibibytes.unwrap_or(0) * 1024
}

/// This file exists once the first run is complete.
fn first_run_mark(inner: &Inner) -> PathBuf {
    inner.home.root().join("first-run-finished")
}

pub(super) async fn finish_first_run(inner: &Arc<Inner>, _: Empty) -> Result<Empty, Failure> {
    let mark = first_run_mark(inner);
    fs::write(&mark, "").map_err(|error| {
        let message = format!("cannot write {}: {error}", mark.display());
        failure::advised!("state-unwritable", message, "check its permissions and the free space on its disk")
    })?;
    Ok(Empty {})
}

/// The parts of `/system/df` that are added up.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct SystemUsage {
    layers_size: u64,
    images: Option<Vec<ImageUsage>>,
    containers: Option<Vec<ContainerUsage>>,
    volumes: Option<Vec<model::Volume>>,
    build_cache: Option<Vec<CacheUsage>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ImageUsage {
    size: i64,
    shared_size: i64,
    containers: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ContainerUsage {
    size_rw: i64,
    state: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct CacheUsage {
    size: i64,
    in_use: bool,
    shared: bool,
}

fn usage_of(entries: impl Iterator<Item = (i64, bool)>) -> Usage {
    let mut usage = Usage::default();
    for (size, unused) in entries {
        // The engine reports -1 for an unknown size.
        let size = u64::try_from(size).unwrap_or(0);
        usage.count += 1;
        usage.size.0 += size;
        if unused {
            usage.reclaimable.0 += size;
        }
    }
    usage
}

pub(super) async fn usage(inner: &Arc<Inner>, _: Empty) -> Result<DiskUsage, Failure> {
    let all: SystemUsage = inner.docker.get(&Query::new("/system/df", &[])).await?;
    // The engine counts layers that images share once.
    let own = |image: &ImageUsage| image.size - image.shared_size.max(0);
    let mut images = usage_of(all.images.iter().flatten().map(|image| (own(image), image.containers == 0)));
    images.size = Bytes(all.layers_size);
    Ok(DiskUsage {
        images,
        containers: usage_of(all.containers.iter().flatten().map(|one| (one.size_rw, one.state != "running"))),
        volumes: usage_of(all.volumes.iter().flatten().filter_map(|volume| {
            let usage = volume.usage_data.as_ref()?;
            Some((usage.size, usage.ref_count == 0))
        })),
        build_cache: usage_of(
            all.build_cache.iter().flatten().filter(|one| !one.shared).map(|one| (one.size, !one.in_use)),
        ),
    })
}

pub(super) async fn events(inner: Arc<Inner>, _: Empty, channel: Channel) -> Result<(), Failure> {
    let mut events = inner.docker.lines(&Query::new("/events", &[])).await?;
    while let Some(value) = events.next().await? {
        if let Some(event) = event(value) {
            channel.event(&event).await?;
        }
    }
    Err(failure::engine_ended())
}

fn event(value: Value) -> Option<EngineEvent> {
    let event: model::Event = serde_json::from_value(value).ok()?;
    Some(EngineEvent {
        at: Timestamp(event.time_nanoseconds / 1_000_000),
        subject: event.kind,
        action: event.action,
        id: event.actor.id,
        attributes: pairs(event.actor.attributes),
    })
}
