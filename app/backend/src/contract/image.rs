//! Images: the list, layers, pull and push with progress by layer.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{Bytes, Document, NameValue, Timestamp};

/// An image as lists show it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct Image {
    /// Identifier, `sha256:…`.
    pub id: String,
    /// `repository:tag`s; empty for a dangling image.
    pub tags: Vec<String>,
    /// `repository@sha256:…`s.
    pub digests: Vec<String>,
    /// When it was made.
    pub created: Timestamp,
    /// All its layers.
    pub size: Bytes,
    /// Layers that other images have too; absent until it is known.
    pub shared: Option<Bytes>,
    /// Identifiers of containers made of it.
    pub used_by: Vec<String>,
    /// Labels.
    pub labels: Vec<NameValue>,
}

/// Names an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ImageTarget {
    /// Identifier or reference.
    pub image: String,
}

/// All about one image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ImageDetail {
    /// As in the list.
    pub image: Image,
    /// `amd64`, `arm64/v8`, …
    pub architecture: String,
    /// `linux`.
    pub operating_system: String,
    /// Entry point and command.
    pub command: Vec<String>,
    /// Environment.
    pub environment: Vec<NameValue>,
    /// Ports it says it listens on: `80/tcp`.
    pub exposed_ports: Vec<String>,
    /// Volumes it declares.
    pub volumes: Vec<String>,
    /// Directory it starts in.
    pub working_directory: String,
    /// User it runs as; empty is root.
    pub user: String,
    /// History, the newest first.
    pub layers: Vec<Layer>,
    /// The engine's own words.
    pub document: Document,
}

/// An instruction of an image, and what it added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct Layer {
    /// Identifier, if the engine still has it.
    pub id: Option<String>,
    /// The Dockerfile's line, tidied: `RUN apk add curl`.
    pub instruction: String,
    /// When.
    pub created: Timestamp,
    /// What it added; zero for one that only sets something.
    pub size: Bytes,
    /// Comment.
    pub comment: String,
}

/// Gives an image another name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ImageTag {
    /// Identifier or reference.
    pub image: String,
    /// `repository:tag`.
    pub reference: String,
}

/// Removes an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ImageRemove {
    /// Identifier or reference; a reference only takes that name away when there are more.
    pub image: String,
    /// Even if stopped containers use it.
    pub force: bool,
}

/// Removes images that nobody uses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ImagesPrune {
    /// All that no container uses; else only those without a name.
    pub all: bool,
}

/// Pulls an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ImagePull {
    /// `repository`, `repository:tag` or `repository@sha256:…`.
    pub reference: String,
    /// Such as `linux/amd64`; absent is the machine's own.
    pub platform: Option<String>,
}

/// How far a pull or push is. Every event tells all layers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct PullProgress {
    /// Layers in the order the engine told of them.
    pub layers: Vec<LayerProgress>,
    /// The engine's last word on the whole, such as `Status: Downloaded newer image`.
    pub status: String,
}

/// How far a layer is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct LayerProgress {
    /// Short identifier.
    pub id: String,
    /// The engine's words: `Downloading`, `Extracting`, `Pull complete`, `Already exists`.
    pub status: String,
    /// Done of this status.
    pub done: Bytes,
    /// All of it; zero when not known.
    pub total: Bytes,
    /// Nothing more will happen to it.
    pub complete: bool,
}

/// Looks for images in a registry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ImageSearch {
    /// Words; `host:port/words` for a registry that is not the default one.
    pub term: String,
}

/// What a registry found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ImageFound {
    /// What to pull.
    pub reference: String,
    /// Description.
    pub description: String,
    /// Stars people gave it; absent when the registry has none.
    pub stars: Option<u32>,
    /// The registry's own.
    pub official: bool,
}

/// Writes images to a file, as bytes of a tar.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ImageSave {
    /// Identifiers or references.
    pub images: Vec<String>,
}

/// What was read of a file of images.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ImageLoaded {
    /// The engine's words, a line each.
    pub messages: Vec<String>,
}
