//! Images: the list, details, search, and pull and push with progress by layer.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{Bytes, Document, NameValue, Timestamp};

/// An image as lists show it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct Image {
    /// Identifier, `sha256:…`.
    pub id: String,
    /// Names in the form `repository:tag`; empty for a dangling image.
    pub tags: Vec<String>,
    /// Digests in the form `repository@sha256:…`.
    pub digests: Vec<String>,
    /// Creation time.
    pub created: Timestamp,
    /// Size of all layers.
    pub size: Bytes,
    /// Size of the layers it shares with other images; absent until known.
    pub shared: Option<Bytes>,
    /// Identifiers of the containers created from it.
    pub used_by: Vec<String>,
    /// Labels.
    pub labels: Vec<NameValue>,
}

/// Identifies an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ImageTarget {
    /// Identifier or reference.
    pub image: String,
}

/// Details of one image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ImageDetail {
    /// The image as in the list.
    pub image: Image,
    /// Architecture: `amd64`, `arm64/v8`, …
    pub architecture: String,
    /// Operating system: `linux`.
    pub operating_system: String,
    /// Entry point and command.
    pub command: Vec<String>,
    /// Environment.
    pub environment: Vec<NameValue>,
    /// Ports it exposes: `80/tcp`.
    pub exposed_ports: Vec<String>,
    /// Volumes it declares.
    pub volumes: Vec<String>,
    /// Working directory.
    pub working_directory: String,
    /// User it runs as; empty means root.
    pub user: String,
    /// History, newest first.
    pub layers: Vec<Layer>,
    /// The engine's own document (`docker image inspect`).
    pub document: Document,
}

/// An instruction of an image, and the layer it added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct Layer {
    /// Identifier, if the engine still has it.
    pub id: Option<String>,
    /// The Dockerfile's line, tidied: `RUN apk add curl`.
    pub instruction: String,
    /// Time it ran.
    pub created: Timestamp,
    /// Size it added; 0 for an instruction without a layer.
    pub size: Bytes,
    /// Comment.
    pub comment: String,
}

/// Tags an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ImageTag {
    /// Identifier or reference.
    pub image: String,
    /// The new name, `repository:tag`.
    pub reference: String,
}

/// Removes an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ImageRemove {
    /// Identifier or reference. A reference removes only that name if the image has others.
    pub image: String,
    /// Removes it even if stopped containers use it.
    pub force: bool,
}

/// Removes unused images.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ImagesPrune {
    /// All images without a container; otherwise only dangling ones.
    pub all: bool,
}

/// Pulls an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ImagePull {
    /// `repository`, `repository:tag` or `repository@sha256:…`.
    pub reference: String,
    /// Platform, such as `linux/amd64`; absent means the machine's own.
    pub platform: Option<String>,
}

/// Progress of a pull or push. Every event holds all layers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct PullProgress {
    /// Layers, in the order the engine first reported them.
    pub layers: Vec<LayerProgress>,
    /// The engine's last message about the whole, such as `Status: Downloaded newer image`.
    pub status: String,
}

/// Progress of a layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct LayerProgress {
    /// Short identifier.
    pub id: String,
    /// The engine's status: `Downloading`, `Extracting`, `Pull complete`, `Already exists`.
    pub status: String,
    /// Bytes done in this status.
    pub done: Bytes,
    /// Bytes in total; 0 when not known.
    pub total: Bytes,
    /// The layer is complete.
    pub complete: bool,
}

/// Searches a registry for images.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ImageSearch {
    /// Search words; `host:port/words` for a registry other than the default.
    pub term: String,
}

/// An image found in a registry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ImageFound {
    /// Reference to pull.
    pub reference: String,
    /// Description.
    pub description: String,
    /// Number of stars; absent when the registry has none.
    pub stars: Option<u32>,
    /// An official image of the registry.
    pub official: bool,
}

/// Saves images as a tar, sent as bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ImageSave {
    /// Identifiers or references.
    pub images: Vec<String>,
}

/// The result of loading images from a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ImageLoaded {
    /// The engine's messages, one a line.
    pub messages: Vec<String>,
}
