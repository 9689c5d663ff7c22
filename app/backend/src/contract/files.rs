//! Files of containers and volumes.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{Bytes, Timestamp};

/// Whose files.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, TS)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum FilePlace {
    /// A container's, running or not.
    Container {
        /// Identifier or name.
        id: String,
    },
    /// A volume's.
    Volume {
        /// Name.
        name: String,
    },
}

/// A file or directory there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct FileTarget {
    /// Whose.
    pub place: FilePlace,
    /// Full path, `/` is the top.
    pub path: String,
}

/// What something in a directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub enum FileKind {
    /// A file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// A device, pipe or socket.
    Other,
}

/// Something in a directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct FileEntry {
    /// Name.
    pub name: String,
    /// What it is.
    pub kind: FileKind,
    /// Of a file.
    pub size: Bytes,
    /// When it was changed.
    pub modified: Timestamp,
    /// Permission bits, such as 0o644.
    pub mode: u32,
    /// Owner.
    pub user: u32,
    /// Group.
    pub group: u32,
    /// Where a link leads.
    pub link: Option<String>,
}

/// A directory's content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct FileList {
    /// Sorted: directories first, then by name.
    pub entries: Vec<FileEntry>,
    /// There were more than 10,000.
    pub truncated: bool,
}

/// Writes a file: its content goes as bytes, then `finish`. What was there is replaced only when all of it arrived.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct FileWrite {
    /// Which file.
    pub target: FileTarget,
    /// How much will come.
    pub size: Bytes,
    /// Permission bits of a new file; absent is 0o644, or as they were.
    pub mode: Option<u32>,
}

/// Ends what goes up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum UploadInput {
    /// All bytes were sent.
    Finish,
}

/// What a download is, before its bytes come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct Download {
    /// A name for the file: `notes.txt`, or `etc.tar` for a directory.
    pub name: String,
    /// How much will come; absent when not known before.
    pub size: Option<Bytes>,
}

/// Moves a file within its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct FileMove {
    /// What.
    pub target: FileTarget,
    /// Full path it gets; nothing may be there.
    pub path: String,
}

/// What a container changed of its image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct FileChange {
    /// Full path.
    pub path: String,
    /// How.
    pub change: FileChangeKind,
}

/// How a file differs from the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub enum FileChangeKind {
    /// New.
    Added,
    /// Different, or something in it is.
    Modified,
    /// Gone.
    Deleted,
}

/// A folder of this computer (to choose one to build).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct HostFolderTarget {
    /// Full path; absent is the home directory.
    pub path: Option<String>,
}

/// What is in a folder of this computer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct HostFolder {
    /// Full path.
    pub path: String,
    /// The folder it is in; absent at the top.
    pub parent: Option<String>,
    /// Names of folders in it, hidden ones left out.
    pub folders: Vec<String>,
    /// Names of Dockerfiles and compose files in it.
    pub recipes: Vec<String>,
}
