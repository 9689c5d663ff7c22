//! Volumes.

use std::{collections::BTreeMap, sync::Arc};

use rorqual_engine::docker::{Query, model};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Inner,
    contract::{Bytes, Empty, Failure, Pruned, Timestamp, Volume, VolumeCreate, VolumeTarget, VolumesPrune},
    failure,
    labels::{pairs, project},
    users::users,
};

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ListAnswer {
    volumes: Option<Vec<model::Volume>>,
}

/// Names Docker generates are 64 hexadecimal digits.
fn is_anonymous(volume: &model::Volume) -> bool {
    volume.labels.contains_key("com.docker.volume.anonymous")
        || (volume.name.len() == 64 && volume.name.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Every volume; `sizes` holds the known sizes of their content.
pub(super) async fn list(inner: &Inner, sizes: &BTreeMap<String, u64>) -> Result<Vec<Volume>, Failure> {
    let answer: ListAnswer = inner.docker.get(&Query::new("/volumes", &[])).await?;
    let mounted = |container: &model::ContainerSummary| {
        container.mounts.iter().filter(|mount| mount.kind == "volume").map(|mount| mount.name.clone()).collect()
    };
    let mut used_by = users(inner, mounted).await?;
    Ok(answer.volumes.unwrap_or_default().into_iter().map(|volume| convert(volume, &mut used_by, sizes)).collect())
}

fn convert(volume: model::Volume, users: &mut BTreeMap<String, Vec<String>>, sizes: &BTreeMap<String, u64>) -> Volume {
    Volume {
        anonymous: is_anonymous(&volume),
        created: Timestamp::of_engine(&volume.created_at),
        size: sizes.get(&volume.name).copied().map(Bytes),
        used_by: users.remove(&volume.name).unwrap_or_default(),
        project: project(&volume.labels),
        name: volume.name,
        driver: volume.driver,
        labels: pairs(volume.labels),
        mountpoint: volume.mountpoint,
    }
}

/// The size of each volume's content, measured by the engine.
pub(super) async fn sizes(inner: &Inner) -> Result<BTreeMap<String, u64>, Failure> {
    let answer: ListAnswer = inner.docker.get(&Query::new("/system/df", &[]).with("type", "volume")).await?;
    let size = |volume: model::Volume| Some((volume.name, u64::try_from(volume.usage_data?.size).ok()?));
    Ok(answer.volumes.unwrap_or_default().into_iter().filter_map(size).collect())
}

pub(super) async fn create(inner: &Arc<Inner>, asked: VolumeCreate) -> Result<Volume, Failure> {
    let labels: BTreeMap<_, _> = asked.labels.into_iter().map(|label| (label.name, label.value)).collect();
    // For a name in use the engine returns the existing volume, but the user asked for a new one.
    if inner.docker.get::<Value>(&Query::new("/volumes/{}", &[&asked.name])).await.is_ok() {
        return Err(failure::advised!(
            "conflict",
            format!("a volume named {:?} already exists", asked.name),
            "choose a different name",
        ));
    }
    let made: model::Volume =
        inner.docker.post(&Query::new("/volumes/create", &[]), &json!({"Name": asked.name, "Labels": labels})).await?;
    Ok(convert(made, &mut BTreeMap::new(), &BTreeMap::new()))
}

pub(super) async fn remove(inner: &Arc<Inner>, target: VolumeTarget) -> Result<Empty, Failure> {
    inner.docker.delete(&Query::new("/volumes/{}", &[&target.name])).await?;
    Ok(Empty {})
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct PruneAnswer {
    volumes_deleted: Option<Vec<String>>,
    space_reclaimed: u64,
}

pub(super) async fn prune(inner: &Arc<Inner>, asked: VolumesPrune) -> Result<Pruned, Failure> {
    let mut query = Query::new("/volumes/prune", &[]);
    if asked.all {
        query = query.filters(&json!({"all": ["true"]}));
    }
    let answer: PruneAnswer = inner.docker.post(&query, &json!({})).await?;
    Ok(Pruned { removed: answer.volumes_deleted.unwrap_or_default(), reclaimed: Bytes(answer.space_reclaimed) })
}
