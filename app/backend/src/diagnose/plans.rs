//! Plans: what each level of reset would delete in the current state.

use std::{collections::BTreeSet, fmt::Write, os::unix::fs::MetadataExt, sync::Arc};

use rorqual_engine::docker::{DockerError, Query, model};
use serde::Deserialize;
use serde_json::json;

use crate::{
    Inner,
    contract::{Empty, Failure, ResetLevel, ResetPlan},
    size::bytes,
};

/// The counted parts of the engine's `/system/df`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Kept {
    layers_size: u64,
    images: Option<Vec<KeptImage>>,
    containers: Option<Vec<KeptContainer>>,
    volumes: Option<Vec<model::Volume>>,
    build_cache: Option<Vec<KeptCache>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct KeptImage {
    id: String,
    size: i64,
    shared_size: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct KeptContainer {
    #[serde(rename = "ImageID")]
    image_id: String,
    state: String,
    size_rw: i64,
    mounts: Option<Vec<model::Mount>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct KeptCache {
    size: i64,
    in_use: bool,
    shared: bool,
}

/// `3 volumes (1.2 GB)`; nothing for a count of 0.
fn line(count: usize, one: &str, many: &str, size: Option<u64>) -> Option<String> {
    if count == 0 {
        return None;
    }
    let mut text = format!("{count} {}", if count == 1 { one } else { many });
    if let Some(size) = size {
        let _ = write!(text, " ({})", bytes(size));
    }
    Some(text)
}

/// A size, if the engine knows it; it reports -1 otherwise.
fn known(size: i64) -> u64 {
    u64::try_from(size).unwrap_or(0)
}

fn volume_line(volumes: &[&model::Volume], one: &str, many: &str) -> Option<String> {
    let size = volumes.iter().filter_map(|volume| Some(known(volume.usage_data.as_ref()?.size))).sum();
    line(volumes.len(), one, many, Some(size))
}

fn cache_line(cache: &[&KeptCache]) -> Option<String> {
    let size = cache.iter().map(|record| known(record.size)).sum();
    line(cache.len(), "build cache record", "build cache records", Some(size))
}

/// Whether a prune removes a container in this state.
fn is_over(state: &str) -> bool {
    matches!(state, "created" | "exited" | "dead")
}

impl Kept {
    /// What `system prune` with all images and anonymous volumes would remove.
    fn pruned(&self, unused_networks: usize) -> Vec<String> {
        let containers = || self.containers.iter().flatten();
        let staying = || containers().filter(|container| !is_over(&container.state));
        let used_images: BTreeSet<&str> = staying().map(|container| container.image_id.as_str()).collect();
        let used_volumes: BTreeSet<&str> = staying()
            .flat_map(|container| container.mounts.iter().flatten())
            .map(|mount| mount.name.as_str())
            .collect();
        let over: Vec<_> = containers().filter(|container| is_over(&container.state)).collect();
        let images: Vec<_> =
            self.images.iter().flatten().filter(|image| !used_images.contains(image.id.as_str())).collect();
        let volumes: Vec<_> = self
            .volumes
            .iter()
            .flatten()
            .filter(|volume| {
                volume.labels.contains_key("com.docker.volume.anonymous")
                    && !used_volumes.contains(volume.name.as_str())
            })
            .collect();
        let cache: Vec<_> =
            self.build_cache.iter().flatten().filter(|record| !record.in_use && !record.shared).collect();
        [
            line(
                over.len(),
                "stopped container",
                "stopped containers",
                Some(over.iter().map(|one| known(one.size_rw)).sum()),
            ),
            line(
                images.len(),
                "image that no running container uses",
                "images that no running container uses",
                Some(images.iter().map(|image| known(image.size - image.shared_size.max(0))).sum()),
            ),
            line(unused_networks, "unused network", "unused networks", None),
            volume_line(&volumes, "unused anonymous volume", "unused anonymous volumes"),
            cache_line(&cache),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// Everything the engine stores.
    fn all(&self, own_networks: usize) -> Vec<String> {
        let containers: Vec<_> = self.containers.iter().flatten().collect();
        let volumes: Vec<_> = self.volumes.iter().flatten().collect();
        let cache: Vec<_> = self.build_cache.iter().flatten().collect();
        [
            line(
                containers.len(),
                "container",
                "containers",
                Some(containers.iter().map(|container| known(container.size_rw)).sum()),
            ),
            line(self.images.iter().flatten().count(), "image", "images", Some(self.layers_size)),
            volume_line(&volumes, "volume", "volumes"),
            line(own_networks, "network", "networks", None),
            cache_line(&cache),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// User-defined networks, and the unused ones among them.
async fn networks(inner: &Inner) -> Result<(usize, usize), Failure> {
    let own = json!({"type": ["custom"]});
    let unused = json!({"type": ["custom"], "dangling": ["true"]});
    let count = async |filters| {
        let found: Vec<serde_json::Value> = inner.docker.get(&Query::new("/networks", &[]).filters(filters)).await?;
        Ok::<_, Failure>(found.len())
    };
    Ok((count(&own).await?, count(&unused).await?))
}

/// Each machine's data disk and saved state, with their sizes.
fn disks(inner: &Inner) -> Vec<String> {
    let allocated = |path: &std::path::Path| std::fs::metadata(path).ok().map(|file| file.blocks() * 512);
    let mut lines = Vec::new();
    for name in inner.home.machines().unwrap_or_default() {
        let paths = inner.home.machine(&name);
        if let Some(size) = allocated(&paths.data_disk()) {
            lines.push(format!("the disk of machine {name} ({})", bytes(size)));
        }
        if paths.snapshot().exists() {
            lines.push(format!("the saved state of machine {name}"));
        }
    }
    lines
}

fn texts(lines: &[&str]) -> Vec<String> {
    lines.iter().map(|line| (*line).to_owned()).collect()
}

pub(crate) async fn reset_plans(inner: &Arc<Inner>, _: Empty) -> Result<Vec<ResetPlan>, Failure> {
    let kept: Result<Kept, DockerError> = inner.docker.get(&Query::new("/system/df", &[])).await;
    let (pruned, all) = match kept {
        Ok(kept) => {
            let (own, unused) = networks(inner).await?;
            (kept.pruned(unused), kept.all(own))
        }
        // The disk's content cannot be counted while the machine is stopped.
        Err(_) => (
            texts(&["everything unused (start the machine to see how much)"]),
            texts(&["every container, image, volume and network (start the machine to see how many)"]),
        ),
    };
    let data: Vec<String> = all.into_iter().chain(disks(inner)).collect();
    let mut factory = data.clone();
    factory.push(format!("the settings in {}", inner.home.config_file().display()));
    factory.extend(texts(&["all machines with their settings and logs", "the build history"]));
    Ok(vec![
        ResetPlan {
            level: ResetLevel::Restart,
            deletes: Vec::new(),
            keeps: texts(&[
                "everything: containers, images, volumes, networks and settings",
                "containers stop, and start again if their restart policy requires it",
            ]),
        },
        ResetPlan {
            level: ResetLevel::Prune,
            deletes: pruned,
            keeps: texts(&["running containers with their images", "every named volume", "settings"]),
        },
        ResetPlan {
            level: ResetLevel::Data,
            deletes: data,
            keeps: texts(&["settings", "registry logins", "folders on this computer"]),
        },
        ResetPlan {
            level: ResetLevel::Factory,
            deletes: factory,
            keeps: texts(&["Rorqual itself", "Docker's own settings and registry logins", "folders on this computer"]),
        },
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prune_counts_what_only_stopped_containers_use() {
        let anonymous = json!({"com.docker.volume.anonymous": ""});
        let kept: Kept = serde_json::from_value(json!({
            "LayersSize": 700,
            "Images": [{"Id": "a", "Size": 300, "SharedSize": 100}, {"Id": "b", "Size": 500, "SharedSize": -1}],
            "Containers": [
                {"ImageID": "a", "State": "running", "SizeRw": 5, "Mounts": [{"Type": "volume", "Name": "used"}]},
                {"ImageID": "b", "State": "exited", "SizeRw": 7, "Mounts": [{"Type": "volume", "Name": "free"}]},
            ],
            "Volumes": [
                {"Name": "used", "Labels": anonymous, "UsageData": {"Size": 1, "RefCount": 1}},
                {"Name": "free", "Labels": anonymous, "UsageData": {"Size": 2000, "RefCount": 1}},
                {"Name": "named", "Labels": {}, "UsageData": {"Size": 4, "RefCount": 0}},
            ],
            "BuildCache": null,
        }))
        .unwrap();
        assert_eq!(
            kept.pruned(2),
            [
                "1 stopped container (7 B)",
                "1 image that no running container uses (500 B)",
                "2 unused networks",
                "1 unused anonymous volume (2.0 kB)",
            ]
        );
        assert_eq!(kept.all(0), ["2 containers (12 B)", "2 images (700 B)", "3 volumes (2.0 kB)"]);
    }
}
