//! Files of containers and volumes.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{Bytes, Timestamp};

/// The owner of files.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, TS)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum FilePlace {
    /// A container, running or not.
    Container {
        /// Identifier or name.
        id: String,
    },
    /// A volume.
    Volume {
        /// Name.
        name: String,
    },
}

/// A file or directory of a container or volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct FileTarget {
    /// The container or volume.
    pub place: FilePlace,
    /// Full path; `/` is the top.
    pub path: String,
}

/// Type of a directory entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub enum FileKind {
    /// Regular file.
    File,
    /// Directory.
    Directory,
    /// Symbolic link.
    Link,
    /// Device, pipe or socket.
    Other,
}

/// A directory entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct FileEntry {
    /// Name.
    pub name: String,
    /// Type.
    pub kind: FileKind,
    /// Size of a regular file.
    pub size: Bytes,
    /// Modification time.
    pub modified: Timestamp,
    /// Permission bits, such as 0o644.
    pub mode: u32,
    /// User id of the owner.
    pub user: u32,
    /// Group id.
    pub group: u32,
    /// Target of a symbolic link.
    pub link: Option<String>,
}

/// Content of a directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct FileList {
    /// Entries, directories first, then by name.
    pub entries: Vec<FileEntry>,
    /// The directory has more than 10,000 entries; the rest is left out.
    pub truncated: bool,
}

/// Writes a file: the content as bytes, then `finish`. An existing file is replaced only after all bytes arrived.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct FileWrite {
    /// The file.
    pub target: FileTarget,
    /// Number of bytes to come.
    pub size: Bytes,
    /// Permission bits; absent keeps those of an existing file, or means 0o644.
    pub mode: Option<u32>,
}

/// Ends an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum UploadInput {
    /// All bytes were sent.
    Finish,
}

/// Describes a download, before its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct Download {
    /// Suggested file name: `notes.txt`, or `etc.tar` for a directory.
    pub name: String,
    /// Number of bytes to come; absent when not known in advance.
    pub size: Option<Bytes>,
}

/// Moves a file within its container or volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct FileMove {
    /// The file.
    pub target: FileTarget,
    /// The new full path, at which nothing may exist.
    pub path: String,
}

/// A difference between a container and its image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct FileChange {
    /// Full path.
    pub path: String,
    /// The kind of difference.
    pub change: FileChangeKind,
}

/// How a file differs from the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub enum FileChangeKind {
    /// Added.
    Added,
    /// Changed, or a directory with a change in it.
    Modified,
    /// Deleted.
    Deleted,
}

/// Identifies a folder of this computer, for choosing one to build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct HostFolderTarget {
    /// Full path; absent means the home directory.
    pub path: Option<String>,
}

/// Content of a folder of this computer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct HostFolder {
    /// Full path.
    pub path: String,
    /// The parent folder; absent at the top.
    pub parent: Option<String>,
    /// Names of its subfolders, without hidden ones.
    pub folders: Vec<String>,
    /// Names of its Dockerfiles and compose files.
    pub recipes: Vec<String>,
}
