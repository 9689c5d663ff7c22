//! Lists that are pushed: the whole list once, then its changes. Events are subscribed to before the list is read, so
//! none is missed; events close together make one change.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

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

/// How long an event waits for others to join it.
const TOGETHER: Duration = Duration::from_millis(50);
/// Container events that change nothing a list shows.
const SILENT: [&str; 6] = ["exec_", "top", "attach", "resize", "archive-path", "extract-to-dir"];

/// Subscribes to events of some kinds.
struct Events(JsonLines);

impl Events {
    async fn of(inner: &Inner, kinds: &[&str]) -> Result<Self, Failure> {
        Ok(Self(inner.docker.lines(&Query::new("/events", &[]).filters(&json!({"type": kinds}))).await?))
    }

    async fn next(&mut self) -> Result<model::Event, Failure> {
        let value = self.0.next().await?.ok_or_else(failure::engine_ended)?;
        serde_json::from_value(value).map_err(|error| failure::unexpected(error.to_string()))
    }

    /// The next event, and those shortly after it.
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
    channel.event(&given.all(containers::all(&inner, None).await?)).await?;
    loop {
        let ids: BTreeSet<String> = events
            .next_few()
            .await?
            .into_iter()
            .filter(|event| !SILENT.iter().any(|silent| event.action.starts_with(silent)))
            // A network's event has the identifier of the container that joined or left.
            .filter_map(|mut event| {
                if event.kind == "network" { event.actor.attributes.remove("container") } else { Some(event.actor.id) }
            })
            .collect();
        if ids.is_empty() {
            continue;
        }
        let found = containers::all(&inner, Some(&ids)).await?;
        let mut found: BTreeMap<String, Container> =
            found.into_iter().map(|container| (container.id.clone(), container)).collect();
        let some = ids.into_iter().map(|id| (id.clone(), found.remove(&id))).collect();
        if let Some(event) = given.update(some) {
            channel.event(&event).await?;
        }
    }
}

/// Whether some of these events may change which containers use what.
fn changes_use(few: &[model::Event], own: &str) -> bool {
    few.iter().any(|event| event.kind == own || matches!(event.action.as_str(), "create" | "destroy" | "rename"))
}

pub(super) async fn images(inner: Arc<Inner>, _: Empty, channel: Channel) -> Result<(), Failure> {
    let mut events = Events::of(&inner, &["image", "container"]).await?;
    let mut given: Given<Image> = Given::new(|image| &image.id);
    channel.event(&given.all(images::list(&inner, false).await?)).await?;
    loop {
        // The engine computes shared sizes slowly.
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
        // Measuring volumes takes longer the larger they are.
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
