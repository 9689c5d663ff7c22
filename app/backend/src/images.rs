//! Images.

use std::{future::Future, sync::Arc};

use bytes::Bytes as Raw;
use hyper::Method;
use rorqual_engine::docker::{Query, body_bytes, model};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{
    Inner,
    contract::{
        Bytes, Document, Download, Empty, Failure, Image, ImageDetail, ImageFound, ImageLoaded, ImageRemove, ImageSave,
        ImageSearch, ImageTag, ImageTarget, ImagesPrune, Layer, Pruned, Timestamp, UploadInput,
    },
    failure,
    labels::{pairs, variable},
    pull::Reference,
    registries,
    stream::{Channel, Input, parse},
    users::users,
};

/// The engine's placeholder for an image without a name.
const NONE: &str = "<none>";

/// Every image except intermediate ones. `shared` requests the shared sizes, which take the engine longer.
pub(super) async fn list(inner: &Inner, shared: bool) -> Result<Vec<Image>, Failure> {
    let query = Query::new("/images/json", &[]).with("shared-size", if shared { "1" } else { "0" });
    let summaries: Vec<model::ImageSummary> = inner.docker.get(&query).await?;
    let mut used_by = users(inner, |container| vec![container.image_id.clone()]).await?;
    let image = |summary: model::ImageSummary| Image {
        used_by: used_by.remove(&summary.id).unwrap_or_default(),
        id: summary.id,
        tags: named(summary.repo_tags),
        digests: named(summary.repo_digests),
        created: Timestamp(summary.created * 1000),
        size: Bytes(summary.size),
        shared: u64::try_from(summary.shared_size).ok().map(Bytes),
        labels: pairs(summary.labels),
    };
    Ok(summaries.into_iter().map(image).collect())
}

fn named(names: Vec<String>) -> Vec<String> {
    names.into_iter().filter(|name| !name.contains(NONE)).collect()
}

pub(super) async fn inspect(inner: &Arc<Inner>, target: ImageTarget) -> Result<ImageDetail, Failure> {
    let document: Value = inner.docker.get(&Query::new("/images/{}/json", &[&target.image])).await?;
    let read: model::ImageInspect =
        serde_json::from_value(document.clone()).map_err(|error| failure::unexpected(error.to_string()))?;
    let history: Vec<model::HistoryItem> = inner.docker.get(&Query::new("/images/{}/history", &[&read.id])).await?;
    let used_by =
        users(inner, |container| vec![container.image_id.clone()]).await?.remove(&read.id).unwrap_or_default();
    let config = read.config;
    let architecture =
        if read.variant.is_empty() { read.architecture } else { format!("{}/{}", read.architecture, read.variant) };
    Ok(ImageDetail {
        image: Image {
            tags: named(read.repo_tags),
            digests: named(read.repo_digests),
            created: Timestamp::of_engine(&read.created).unwrap_or_default(),
            size: Bytes(read.size),
            shared: None,
            used_by,
            labels: pairs(config.labels),
            id: read.id,
        },
        architecture,
        operating_system: read.os,
        command: config.entrypoint.into_iter().chain(config.cmd).collect(),
        environment: config.env.iter().map(|line| variable(line)).collect(),
        exposed_ports: config.exposed_ports.into_keys().collect(),
        volumes: config.volumes.into_keys().collect(),
        working_directory: config.working_dir,
        user: config.user,
        layers: history.into_iter().map(layer).collect(),
        document: Document(document),
    })
}

fn layer(item: model::HistoryItem) -> Layer {
    Layer {
        id: Some(item.id).filter(|id| id != "<missing>" && !id.is_empty()),
        instruction: instruction(&item.created_by),
        created: Timestamp(item.created * 1000),
        size: Bytes(item.size),
        comment: item.comment,
    }
}

/// The Dockerfile's line, from what the classic builder or `BuildKit` records of it.
fn instruction(created_by: &str) -> String {
    let text = created_by.trim_end_matches("# buildkit").trim();
    let text = text.strip_prefix("|").map_or(text, |arguments| {
        // The classic builder puts build arguments before the command, with their number: `|1 version=2 /bin/sh -c
        // make`.
        arguments.find("/bin/sh -c").map_or(text, |at| &arguments[at..])
    });
    match text.strip_prefix("/bin/sh -c ") {
        Some(rest) => match rest.trim_start().strip_prefix("#(nop)") {
            Some(instruction) => instruction.trim().to_owned(),
            None => format!("RUN {}", rest.trim()),
        },
        None => text.replace("RUN /bin/sh -c ", "RUN "),
    }
}

pub(super) async fn tag(inner: &Arc<Inner>, asked: ImageTag) -> Result<Empty, Failure> {
    let reference = Reference::parse(&asked.reference)?;
    let query = Query::new("/images/{}/tag", &[&asked.image])
        .with("repo", &reference.name)
        .with("tag", reference.tag_or_latest());
    inner.docker.act(&query, None).await?;
    Ok(Empty {})
}

pub(super) async fn remove(inner: &Arc<Inner>, asked: ImageRemove) -> Result<Vec<String>, Failure> {
    let answer =
        inner.docker.delete(&Query::new("/images/{}", &[&asked.image]).with("force", &asked.force.to_string())).await?;
    Ok(removed(&answer))
}

/// Names and identifiers in the engine's response to a removal.
fn removed(answer: &Value) -> Vec<String> {
    let entries = answer.as_array().map(Vec::as_slice).unwrap_or_default();
    entries
        .iter()
        .filter_map(|entry| entry["Untagged"].as_str().or(entry["Deleted"].as_str()).map(str::to_owned))
        .collect()
}

pub(super) async fn prune(inner: &Arc<Inner>, asked: ImagesPrune) -> Result<Pruned, Failure> {
    let query = Query::new("/images/prune", &[]).filters(&json!({"dangling": [(!asked.all).to_string()]}));
    let answer: Value = inner.docker.post(&query, &json!({})).await?;
    // Layers are deleted with the image; only those that are images were tagged or listed.
    let whole = |entry: &&Value| entry["Untagged"].is_string();
    let entries = answer["ImagesDeleted"].as_array().map(Vec::as_slice).unwrap_or_default();
    let removed =
        entries.iter().filter(whole).filter_map(|entry| entry["Untagged"].as_str().map(str::to_owned)).collect();
    Ok(Pruned { removed, reclaimed: Bytes(answer["SpaceReclaimed"].as_u64().unwrap_or(0)) })
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct SearchAnswer {
    name: String,
    description: String,
    star_count: u32,
    is_official: bool,
}

pub(super) async fn search(inner: &Arc<Inner>, asked: ImageSearch) -> Result<Vec<ImageFound>, Failure> {
    // A private registry has no search; it lists its content.
    if let Some((host, words)) = asked.term.split_once('/').filter(|(host, _)| registries::is_host(host)) {
        return registries::catalog(inner, host, words).await;
    }
    let answer: Vec<SearchAnswer> =
        inner.docker.get(&Query::new("/images/search", &[]).with("term", &asked.term).with("limit", "50")).await?;
    let found = |answer: SearchAnswer| ImageFound {
        reference: answer.name,
        description: answer.description,
        stars: Some(answer.star_count),
        official: answer.is_official,
    };
    Ok(answer.into_iter().map(found).collect())
}

pub(super) async fn save(inner: Arc<Inner>, asked: ImageSave, channel: Channel) -> Result<(), Failure> {
    let [first, ..] = asked.images.as_slice() else { return Err(failure::bad_request("no image is given")) };
    let name = first.rsplit('/').next().unwrap_or(first).replace(':', "-");
    let query = asked.images.iter().fold(Query::new("/images/get", &[]), |query, image| query.with("names", image));
    let mut body = inner.docker.stream(&query).await?;
    channel.event(&Download { name: format!("{name}.tar"), size: None }).await?;
    while let Some(bytes) = body_bytes(&mut body).await? {
        channel.bytes(bytes).await?;
    }
    Ok(())
}

pub(super) async fn load(inner: Arc<Inner>, _: Empty, mut channel: Channel) -> Result<(), Failure> {
    let (content, received) = mpsc::channel::<Raw>(4);
    let query = Query::new("/images/load", &[]).with("quiet", "1");
    let loading = async {
        let mut answer = inner.docker.upload(Method::POST, &query, received).await?;
        let mut messages = Vec::new();
        while let Some(value) = answer.next().await? {
            let line: model::ProgressLine = serde_json::from_value(value).unwrap_or_default();
            if let Some(error) = line.error {
                return Err(failure::advised!(
                    "refused",
                    format!("the engine cannot load this file: {error}"),
                    "choose a file written by `docker save`",
                ));
            }
            messages.extend(line.stream.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()));
        }
        Ok(messages)
    };
    let messages = feed(&mut channel, content, loading).await?;
    channel.event(&ImageLoaded { messages }).await
}

/// Forwards the page's input until the page marks its end. If the page leaves, the load is cancelled.
pub(super) async fn feed<T>(
    channel: &mut Channel,
    content: mpsc::Sender<Raw>,
    receiving: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::pin!(receiving);
    let mut content = Some(content);
    loop {
        tokio::select! {
            result = &mut receiving => return result,
            input = channel.input(), if content.is_some() => match input {
                Some(Input::Bytes(bytes)) => {
                    let Some(sender) = &content else { continue };
                    tokio::select! {
                        // The engine stopped reading; its response states why.
                        _ = sender.send(bytes) => {}
                        result = &mut receiving => return result,
                    }
                }
                Some(Input::Value(value)) => {
                    let UploadInput::Finish = parse(value)?;
                    content = None;
                }
                None => return Err(failure::canceled()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_read_as_in_the_dockerfile() {
        let cases = [
            ("/bin/sh -c #(nop)  CMD [\"nginx\"]", "CMD [\"nginx\"]"),
            ("/bin/sh -c apk add curl", "RUN apk add curl"),
            ("|1 version=2 /bin/sh -c make", "RUN make"),
            ("RUN /bin/sh -c apk add curl # buildkit", "RUN apk add curl"),
            ("COPY /src /dst # buildkit", "COPY /src /dst"),
            ("ENTRYPOINT [\"/hello\"]", "ENTRYPOINT [\"/hello\"]"),
        ];
        for (noted, expected) in cases {
            assert_eq!(instruction(noted), expected);
        }
    }
}
