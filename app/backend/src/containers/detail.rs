//! Details of one container.

use std::sync::Arc;

use rorqual_engine::docker::{Query, model};
use serde::Deserialize;
use serde_json::Value;

use super::summary;
use crate::{
    Inner, commandline,
    contract::{
        Container, ContainerDetail, ContainerEndpoint, ContainerTarget, Document, Failure, FileChange, FileChangeKind,
        Mount, Processes,
    },
    failure,
    labels::variable,
};

pub(crate) async fn inspect(inner: &Arc<Inner>, target: ContainerTarget) -> Result<ContainerDetail, Failure> {
    let document: Value = inner.docker.get(&Query::new("/containers/{}/json", &[&target.id])).await?;
    let read = |document: &Value| serde_json::from_value::<model::ContainerInspect>(document.clone());
    let inspected = read(&document).map_err(|error| failure::unexpected(error.to_string()))?;
    let container: Container = summary::one(inner, &inspected.id)
        .await?
        .ok_or_else(|| failure::coded("not-found", format!("the container {} no longer exists", target.id)))?;
    // The image's defaults are not options the user chose.
    let image: Option<model::ImageInspect> =
        inner.docker.get(&Query::new("/images/{}/json", &[&container.image_id])).await.ok();
    let run_command = commandline::docker_run(&inspected, image.as_ref().map(|image| &image.config));
    let config = &inspected.config;
    Ok(ContainerDetail {
        command: std::iter::once(inspected.path.clone()).chain(inspected.args.iter().cloned()).collect(),
        working_directory: config.working_dir.clone(),
        user: config.user.clone(),
        restart_policy: commandline::restart_policy(&inspected.host_config.restart_policy),
        environment: config.env.iter().map(|line| variable(line)).collect(),
        mounts: inspected.mounts.iter().map(mount).collect(),
        endpoints: inspected
            .network_settings
            .networks
            .iter()
            .map(|(network, endpoint)| ContainerEndpoint {
                network: network.clone(),
                address: endpoint.address.clone(),
                address6: Some(endpoint.address6.clone()).filter(|address| !address.is_empty()),
                aliases: endpoint.aliases.clone(),
            })
            .collect(),
        run_command,
        container,
        document: Document(document),
    })
}

fn mount(mount: &model::Mount) -> Mount {
    Mount {
        kind: mount.kind.clone(),
        source: if mount.name.is_empty() { mount.source.clone() } else { mount.name.clone() },
        target: mount.destination.clone(),
        writable: mount.writable,
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct TopAnswer {
    titles: Option<Vec<String>>,
    processes: Option<Vec<Vec<String>>>,
}

pub(crate) async fn processes(inner: &Arc<Inner>, target: ContainerTarget) -> Result<Processes, Failure> {
    let answer: TopAnswer = inner.docker.get(&Query::new("/containers/{}/top", &[&target.id])).await?;
    Ok(Processes { titles: answer.titles.unwrap_or_default(), rows: answer.processes.unwrap_or_default() })
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ChangeAnswer {
    path: String,
    kind: u8,
}

pub(crate) async fn changes(inner: &Arc<Inner>, target: ContainerTarget) -> Result<Vec<FileChange>, Failure> {
    let answer: Option<Vec<ChangeAnswer>> =
        inner.docker.get(&Query::new("/containers/{}/changes", &[&target.id])).await?;
    let change = |answer: ChangeAnswer| FileChange {
        path: answer.path,
        change: match answer.kind {
            1 => FileChangeKind::Added,
            2 => FileChangeKind::Deleted,
            _ => FileChangeKind::Modified,
        },
    };
    Ok(answer.unwrap_or_default().into_iter().map(change).collect())
}
