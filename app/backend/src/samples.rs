//! Resource use of containers: the engine sends a sample of each once a second, and the page gets one event for all.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use rorqual_engine::docker::{Query, model};
use serde_json::json;
use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinSet},
    time::{MissedTickBehavior, interval},
};

use super::{
    Inner,
    contract::{Bytes, ContainerSample, ContainerSamples, Failure, SampleTargets, Timestamp},
    failure,
    stream::Channel,
};

/// Interval of the events.
const EVERY: Duration = Duration::from_secs(1);

pub(super) async fn samples(inner: Arc<Inner>, asked: SampleTargets, channel: Channel) -> Result<(), Failure> {
    let filters = json!({"type": ["container"], "event": ["start", "die"]});
    let mut events = inner.docker.lines(&Query::new("/events", &[]).filters(&filters)).await?;
    let running: Vec<model::ContainerSummary> = inner.docker.get(&Query::new("/containers/json", &[])).await?;
    let wanted = |id: &str| asked.ids.as_ref().is_none_or(|ids| ids.iter().any(|known| known == id));
    // Dropping the set with this stream aborts its tasks.
    let mut tasks = JoinSet::new();
    let mut watched: HashMap<String, AbortHandle> = HashMap::new();
    let (found, mut finds) = mpsc::channel::<ContainerSample>(64);
    for container in running.into_iter().filter(|container| wanted(&container.id)) {
        watch(&inner, &mut tasks, &mut watched, container.id, &found);
    }
    let mut latest: BTreeMap<String, ContainerSample> = BTreeMap::new();
    let mut tick = interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            Some(sample) = finds.recv() => {
                if watched.contains_key(&sample.id) {
                    latest.insert(sample.id.clone(), sample);
                }
            }
            event = events.next() => {
                let event = event?.ok_or_else(failure::engine_ended)?;
                let event: model::Event =
                    serde_json::from_value(event).map_err(|error| failure::unexpected(error.to_string()))?;
                let id = event.actor.id;
                if event.action == "start" && wanted(&id) {
                    watch(&inner, &mut tasks, &mut watched, id, &found);
                } else if event.action == "die" {
                    latest.remove(&id);
                    if let Some(task) = watched.remove(&id) {
                        task.abort();
                    }
                }
            }
            // Reaps the tasks that ended.
            Some(_) = tasks.join_next() => {}
            _ = tick.tick() => {
                let samples = latest.values().cloned().collect();
                channel.event(&ContainerSamples { at: Timestamp::now(), samples }).await?;
            }
        }
    }
}

fn watch(
    inner: &Arc<Inner>,
    tasks: &mut JoinSet<()>,
    watched: &mut HashMap<String, AbortHandle>,
    id: String,
    found: &mpsc::Sender<ContainerSample>,
) {
    let (inner, found, container) = (inner.clone(), found.clone(), id.clone());
    let task = tasks.spawn(async move {
        // A container that disappeared has no samples; its `die` event follows.
        let Ok(mut stats) =
            inner.docker.lines(&Query::new("/containers/{}/stats", &[&container]).with("stream", "1")).await
        else {
            return;
        };
        while let Ok(Some(value)) = stats.next().await {
            let Ok(stats) = serde_json::from_value::<model::Stats>(value) else { continue };
            if found.send(sample(&container, &stats)).await.is_err() {
                return;
            }
        }
    });
    if let Some(before) = watched.insert(id, task) {
        before.abort();
    }
}

/// Computed as `docker stats` does: memory excludes reclaimable page cache, and CPU time is relative to the time of all
/// processors.
fn sample(id: &str, stats: &model::Stats) -> ContainerSample {
    let (now, before) = (&stats.cpu_stats, &stats.precpu_stats);
    let used = now.cpu_usage.total_usage.saturating_sub(before.cpu_usage.total_usage);
    let passed = now.system_cpu_usage.saturating_sub(before.system_cpu_usage);
    let sum = |pick: fn(&model::NetworkStats) -> u64| Bytes(stats.networks.values().map(pick).sum());
    let disk = |operation: &str| {
        let entries = stats.blkio_stats.io_service_bytes_recursive.iter();
        Bytes(entries.filter(|entry| entry.op.eq_ignore_ascii_case(operation)).map(|entry| entry.value).sum())
    };
    let inactive = stats.memory_stats.stats.get("inactive_file").copied().unwrap_or(0);
    ContainerSample {
        id: id.to_owned(),
        cpu_percent: if before.system_cpu_usage == 0 { 0.0 } else { percent(used, passed, now.online_cpus.max(1)) },
        memory: Bytes(stats.memory_stats.usage.saturating_sub(inactive)),
        memory_limit: Bytes(stats.memory_stats.limit),
        network_received: sum(|network| network.rx_bytes),
        network_sent: sum(|network| network.tx_bytes),
        disk_read: disk("read"),
        disk_written: disk("write"),
        processes: stats.pids_stats.current,
    }
}

/// Nanoseconds within a second or so are far below 2^52, so the conversion is exact.
#[expect(clippy::cast_precision_loss)]
fn percent(used: u64, passed: u64, processors: u32) -> f64 {
    if passed == 0 { 0.0 } else { used as f64 / passed as f64 * f64::from(processors) * 100.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_what_docker_stats_shows() {
        let stats: model::Stats = serde_json::from_value(json!({
            "cpu_stats": {"cpu_usage": {"total_usage": 300}, "system_cpu_usage": 3000, "online_cpus": 2},
            "precpu_stats": {"cpu_usage": {"total_usage": 200}, "system_cpu_usage": 2000},
            "memory_stats": {"usage": 100, "limit": 1000, "stats": {"inactive_file": 40}},
            "networks": {"eth0": {"rx_bytes": 1, "tx_bytes": 2}, "eth1": {"rx_bytes": 10, "tx_bytes": 20}},
            "blkio_stats": {"io_service_bytes_recursive": [
                {"op": "read", "value": 5}, {"op": "Write", "value": 6}, {"op": "read", "value": 7}
            ]},
            "pids_stats": {"current": 3}
        }))
        .unwrap();
        let sample = sample("c", &stats);
        assert!((sample.cpu_percent - 20.0).abs() < 1e-9);
        assert_eq!((sample.memory, sample.network_received, sample.network_sent), (Bytes(60), Bytes(11), Bytes(22)));
        assert_eq!((sample.disk_read, sample.disk_written, sample.processes), (Bytes(12), Bytes(6), 3));
        assert!(super::sample("c", &model::Stats::default()).cpu_percent.abs() < 1e-9);
    }
}
