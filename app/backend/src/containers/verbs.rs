//! Actions on containers.

use std::sync::Arc;

use rorqual_engine::docker::Query;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    Inner,
    contract::{
        Bytes, ContainerCommit, ContainerRemove, ContainerRename, ContainerTarget, Created, Empty, Failure, Pruned,
    },
    pull::Reference,
};

async fn act(inner: &Inner, pattern: &str, id: &str) -> Result<Empty, Failure> {
    inner.docker.act(&Query::new(pattern, &[id]), None).await?;
    Ok(Empty {})
}

pub(crate) async fn start(inner: &Arc<Inner>, target: ContainerTarget) -> Result<Empty, Failure> {
    act(inner, "/containers/{}/start", &target.id).await
}

pub(crate) async fn stop(inner: &Arc<Inner>, target: ContainerTarget) -> Result<Empty, Failure> {
    act(inner, "/containers/{}/stop", &target.id).await
}

pub(crate) async fn restart(inner: &Arc<Inner>, target: ContainerTarget) -> Result<Empty, Failure> {
    act(inner, "/containers/{}/restart", &target.id).await
}

pub(crate) async fn kill(inner: &Arc<Inner>, target: ContainerTarget) -> Result<Empty, Failure> {
    act(inner, "/containers/{}/kill", &target.id).await
}

pub(crate) async fn pause(inner: &Arc<Inner>, target: ContainerTarget) -> Result<Empty, Failure> {
    act(inner, "/containers/{}/pause", &target.id).await
}

pub(crate) async fn unpause(inner: &Arc<Inner>, target: ContainerTarget) -> Result<Empty, Failure> {
    act(inner, "/containers/{}/unpause", &target.id).await
}

pub(crate) async fn remove(inner: &Arc<Inner>, target: ContainerRemove) -> Result<Empty, Failure> {
    let query = Query::new("/containers/{}", &[&target.id])
        .with("force", &target.force.to_string())
        .with("v", &target.volumes.to_string());
    inner.docker.delete(&query).await?;
    Ok(Empty {})
}

pub(crate) async fn rename(inner: &Arc<Inner>, target: ContainerRename) -> Result<Empty, Failure> {
    inner.docker.act(&Query::new("/containers/{}/rename", &[&target.id]).with("name", &target.name), None).await?;
    Ok(Empty {})
}

pub(crate) async fn commit(inner: &Arc<Inner>, target: ContainerCommit) -> Result<Created, Failure> {
    let reference = Reference::parse(&target.reference)?;
    let query = Query::new("/commit", &[])
        .with("container", &target.id)
        .with("repo", &reference.name)
        .with("tag", reference.tag_or_latest())
        .with("comment", &target.message);
    let made: Value = inner.docker.post(&query, &json!({})).await?;
    Ok(Created { id: made["Id"].as_str().unwrap_or_default().to_owned(), warnings: Vec::new() })
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct PruneAnswer {
    containers_deleted: Option<Vec<String>>,
    space_reclaimed: u64,
}

pub(crate) async fn prune(inner: &Arc<Inner>, _: Empty) -> Result<Pruned, Failure> {
    let answer: PruneAnswer = inner.docker.post(&Query::new("/containers/prune", &[]), &json!({})).await?;
    Ok(Pruned { removed: answer.containers_deleted.unwrap_or_default(), reclaimed: Bytes(answer.space_reclaimed) })
}
