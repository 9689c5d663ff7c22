//! The lists that are pushed: all once, then what the engine's events changed. Events are watched before the list is
//! read, so nothing falls between; those that come close together make one change.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt, stream};
use rorqual_engine::docker::{JsonLines, Query, model};
use serde_json::json;

use super::{
    Inner,
    changes::Given,
    containers,
    contract::{Container, Empty, Failure, Image, Network, Volume},
    failure, images, networks,
    stream::Channel,
    volumes,
};

/// How long an event waits for its like.
const TOGETHER: Duration = Duration::from_millis(50);
/// Containers inspected at once.
const AT_ONCE: usize = 8;
/// Events of containers that change nothing a list shows.
const SILENT: [&str; 6] = ["exec_", "top", "attach", "resize", "archive-path", "extract-to-dir"];

/// Watches events of some kinds.
struct Events(JsonLines);

impl Events {
    async fn of(inner: &Inner, kinds: &[&str]) -> Result<Self, Failure> {
        Ok(Self(inner.docker.lines(&Query::new("/events", &[]).filters(&json!({"type": kinds}))).await?))
    }

    async fn next(&mut self) -> Result<model::Event, Failure> {
        let value = self.0.next().await?.ok_or_else(failure::engine_ended)?;
        serde_json::from_value(value).map_err(|error| failure::unexpected(error.to_string()))
    }

    /// The next event and those right after it.
    async fn next_few(&mut self) -> Result<Vec<model::Event>, Failure> {
        let mut few = vec![self.next().await?];
        let end = tokio::time::Instant::now() + TOGETHER;
        loop {
            match tokio::time::timeout_at(end, self.next()).await {
                Ok(event) => few.push(event?),
                Err(_) => return Ok(few),
            }
        }
    }
}

pub(super) async fn containers(inner: Arc<Inner>, _: Empty, channel: Channel) -> Result<(), Failure> {
    let mut events = Events::of(&inner, &["container", "network"]).await?;
    let mut given: Given<Container> = Given::new(|container| &container.id);
    channel.event(&given.all(all_containers(&inner, None).await?)).await?;
    loop {
        let ids: BTreeSet<String> = events
            .next_few()
            .await?
            .into_iter()
            .filter(|event| !SILENT.iter().any(|silent| event.action.starts_with(silent)))
            // A network's event names the container that came or went.
            .filter_map(|mut event| {
                if event.kind == "network" { event.actor.attributes.remove("container") } else { Some(event.actor.id) }
            })
            .collect();
        if ids.is_empty() {
            continue;
        }
        let found = all_containers(&inner, Some(&ids)).await?;
        let mut found: BTreeMap<String, Container> =
            found.into_iter().map(|container| (container.id.clone(), container)).collect();
        let some = ids.into_iter().map(|id| (id.clone(), found.remove(&id))).collect();
        if let Some(event) = given.update(some) {
            channel.event(&event).await?;
        }
    }
}

/// Containers as the window lists them; all, or those of `ids` that are there.
async fn all_containers(inner: &Inner, ids: Option<&BTreeSet<String>>) -> Result<Vec<Container>, Failure> {
    let query = Query::new("/containers/json", &[]).with("all", "1");
    let query = match ids {
        Some(ids) => query.filters(&json!({"id": ids})),
        None => query,
    };
    let summaries: Vec<model::ContainerSummary> = inner.docker.get(&query).await?;
    let containers = stream::iter(summaries).map(|summary| async move {
        // Only of those that run it is worth a question when they started.
        let inspected = match summary.state.as_str() {
            "running" | "paused" => inner
                .docker
                .get::<model::ContainerInspect>(&Query::new("/containers/{}/json", &[&summary.id]))
                .await
                .ok(),
            _ => None,
        };
        containers::container(summary, inspected.as_ref())
    });
    Ok(containers.buffered(AT_ONCE).collect().await)
}

/// One container, if it is there.
pub(super) async fn one_container(inner: &Inner, id: &str) -> Result<Option<Container>, Failure> {
    Ok(all_containers(inner, Some(&BTreeSet::from([id.to_owned()]))).await?.pop())
}

/// Identifiers of the containers that use something, by what `uses` says of each.
pub(super) async fn users(
    inner: &Inner,
    uses: impl Fn(&model::ContainerSummary) -> Vec<String>,
) -> Result<BTreeMap<String, Vec<String>>, Failure> {
    let all: Vec<model::ContainerSummary> =
        inner.docker.get(&Query::new("/containers/json", &[]).with("all", "1")).await?;
    let mut users: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for container in all {
        for used in uses(&container) {
            users.entry(used).or_default().push(container.id.clone());
        }
    }
    Ok(users)
}

/// Whether events among `few` may change who uses what.
fn changes_use(few: &[model::Event], own: &str) -> bool {
    few.iter().any(|event| event.kind == own || matches!(event.action.as_str(), "create" | "destroy" | "rename"))
}

pub(super) async fn images(inner: Arc<Inner>, _: Empty, channel: Channel) -> Result<(), Failure> {
    let mut events = Events::of(&inner, &["image", "container"]).await?;
    let mut given: Given<Image> = Given::new(|image| &image.id);
    channel.event(&given.all(images::list(&inner, false).await?)).await?;
    loop {
        // What images share takes the engine a while to find out.
        if let Some(event) = given.change_to(images::list(&inner, true).await?) {
            channel.event(&event).await?;
        }
        while !changes_use(&events.next_few().await?, "image") {}
    }
}

pub(super) async fn volumes(inner: Arc<Inner>, _: Empty, channel: Channel) -> Result<(), Failure> {
    let mut events = Events::of(&inner, &["volume", "container"]).await?;
    let mut given: Given<Volume> = Given::new(|volume| &volume.name);
    let mut sizes = BTreeMap::new();
    channel.event(&given.all(volumes::list(&inner, &sizes).await?)).await?;
    loop {
        // Counting what is in volumes takes as long as they are large.
        sizes = volumes::sizes(&inner).await?;
        if let Some(event) = given.change_to(volumes::list(&inner, &sizes).await?) {
            channel.event(&event).await?;
        }
        while !changes_use(&events.next_few().await?, "volume") {}
        if let Some(event) = given.change_to(volumes::list(&inner, &sizes).await?) {
            channel.event(&event).await?;
        }
    }
}

pub(super) async fn networks(inner: Arc<Inner>, _: Empty, channel: Channel) -> Result<(), Failure> {
    let mut events = Events::of(&inner, &["network", "container"]).await?;
    let mut given: Given<Network> = Given::new(|network| &network.id);
    channel.event(&given.all(networks::list(&inner).await?)).await?;
    loop {
        while !changes_use(&events.next_few().await?, "network") {}
        if let Some(event) = given.change_to(networks::list(&inner).await?) {
            channel.event(&event).await?;
        }
    }
}
