//! The document of a snapshot: a line that describes what follows, with its checksum, and the state as JSON.
//!
//! `{"rorqual_snapshot":1,"bytes":N,"sha256":"…"}\n{…}`. A reader of another format refuses it by the first
//! line alone.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;

use rorqual_vmm_protocol::{Block, Config};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::hypervisor::SavedState;
use crate::net::record::NetworkRecord;

/// The format this monitor writes and reads. A change of any structure below needs a new one.
pub const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Introduction {
    rorqual_snapshot: u32,
    bytes: usize,
    sha256: String,
}

/// A file as it was when the snapshot was made.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct FileIdentity {
    device: u64,
    inode: u64,
    bytes: u64,
    /// Seconds and nanoseconds of the last change of its contents.
    modified: (i64, i64),
}

impl FileIdentity {
    /// The identity of the file with this metadata.
    pub fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

/// What must be the same in the machine a snapshot is restored into.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Shape {
    /// Number of processors.
    pub cpus: u32,
    /// Guest memory in MiB.
    pub memory_mib: u64,
    /// Context ID of the guest, when it has a vsock device.
    pub guest_cid: Option<u32>,
    /// The addresses of its network, when it has a card.
    pub network: Option<NetworkRecord>,
    /// The disks in their order: identity, and the image as it was.
    pub disks: Vec<(String, FileIdentity)>,
}

impl Shape {
    /// The shape of a machine with this configuration and network. Reads the metadata of its disk images.
    pub fn of(config: &Config, network: Option<&NetworkRecord>) -> io::Result<Self> {
        let disk = |block: &Block| Ok((block.id.clone(), FileIdentity::of(&fs::metadata(&block.path)?)));
        Ok(Self {
            cpus: config.cpus,
            memory_mib: config.memory_mib,
            guest_cid: config.vsock.as_ref().map(|vsock| vsock.guest_cid),
            network: network.cloned(),
            disks: config.block.iter().map(disk).collect::<io::Result<_>>()?,
        })
    }

    /// Why a snapshot of this shape cannot be restored into a machine of shape `other`; nothing if it can.
    pub fn difference(&self, other: &Self) -> Option<String> {
        let changed = |what: &str, then: u64, now: u64| {
            (then != now).then(|| format!("the machine had {then} {what} when it was saved and has {now} now"))
        };
        changed("processors", self.cpus.into(), other.cpus.into())
            .or_else(|| changed("MiB of memory", self.memory_mib, other.memory_mib))
            .or_else(|| {
                (self.guest_cid != other.guest_cid).then(|| "its vsock device differs from the machine's".to_owned())
            })
            .or_else(|| (self.network != other.network).then(|| "its network differs from the machine's".to_owned()))
            .or_else(|| {
                let names = |shape: &Self| shape.disks.iter().map(|(id, _)| id.clone()).collect::<Vec<_>>();
                (names(self) != names(other)).then(|| "its disks differ from the machine's".to_owned())
            })
            .or_else(|| {
                let mut pairs = self.disks.iter().zip(&other.disks);
                let (id, _) = pairs.find(|((_, then), (_, now))| then != now)?.0;
                Some(format!("the image of disk {id} has changed since the machine was saved"))
            })
    }
}

/// The memory file.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct MemoryRecord {
    /// Length of the file and of the guest's memory.
    pub bytes: u64,
    /// The file right after it was written, and when its inode last changed (seconds, nanoseconds).
    pub file: FileIdentity,
    /// See `file`.
    pub changed: (i64, i64),
    /// CRC-32 of each piece of [`PIECE_BYTES`](super::memory::PIECE_BYTES); none for one that is all zero.
    pub pieces: Vec<Option<u32>>,
}

/// One processor.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ProcessorRecord {
    /// The features that the guest found, in the form of its architecture.
    pub features: SavedState,
    /// Everything else.
    pub state: SavedState,
}

/// A whole machine without its memory.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Document {
    /// Version of the monitor that wrote it, for people.
    pub monitor: String,
    /// What must still be the same.
    pub shape: Shape,
    /// The memory beside it.
    pub memory: MemoryRecord,
    /// The processors by number.
    pub processors: Vec<ProcessorRecord>,
    /// Interrupt controllers and clock.
    pub machine: SavedState,
    /// Everything that is neither processor nor virtio device.
    pub board: SavedState,
    /// The virtio devices in their order.
    pub devices: Vec<SavedState>,
}

fn checksum(bytes: &[u8]) -> String {
    use std::fmt::Write;
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

impl Document {
    /// The contents of the document's file.
    pub fn to_bytes(&self) -> serde_json::Result<Vec<u8>> {
        let state = serde_json::to_vec(self)?;
        let introduction = Introduction { rorqual_snapshot: FORMAT, bytes: state.len(), sha256: checksum(&state) };
        let mut bytes = serde_json::to_vec(&introduction)?;
        bytes.push(b'\n');
        bytes.extend_from_slice(&state);
        Ok(bytes)
    }

    /// Reads a document. The error names what is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let end = bytes.iter().position(|byte| *byte == b'\n').ok_or("its document is cut off")?;
        // A document of another format is only known to have the number.
        let format = serde_json::from_slice::<serde_json::Value>(&bytes[..end])
            .ok()
            .and_then(|line| line.get("rorqual_snapshot").and_then(serde_json::Value::as_u64))
            .ok_or("its document is damaged: the first line is not that of a snapshot")?;
        if format != u64::from(FORMAT) {
            return Err(format!("it has format {format}; this version of Rorqual reads format {FORMAT}"));
        }
        let introduction: Introduction =
            serde_json::from_slice(&bytes[..end]).map_err(|error| format!("its document is damaged: {error}"))?;
        let state = &bytes[end + 1..];
        if state.len() != introduction.bytes {
            return Err(format!("its document has {} bytes instead of {}", state.len(), introduction.bytes));
        }
        if checksum(state) != introduction.sha256 {
            return Err("its document is damaged: the checksum does not match".to_owned());
        }
        serde_json::from_slice(state).map_err(|error| format!("its document is invalid: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Document {
        let file = FileIdentity { device: 1, inode: 2, bytes: 3, modified: (4, 5) };
        Document {
            monitor: "0.1.0".to_owned(),
            shape: Shape {
                cpus: 1,
                memory_mib: 128,
                guest_cid: Some(3),
                network: Some(NetworkRecord {
                    subnet: "198.19.64.0/24".to_owned(),
                    prefix6: "fd00:1:2:3::".parse().unwrap(),
                }),
                disks: vec![("root".to_owned(), file), ("data".to_owned(), file)],
            },
            memory: MemoryRecord { bytes: 3, file, changed: (6, 7), pieces: vec![Some(1), None] },
            processors: Vec::new(),
            machine: SavedState::Null,
            board: SavedState::Null,
            devices: Vec::new(),
        }
    }

    #[test]
    fn a_document_survives_its_file() {
        let bytes = example().to_bytes().unwrap();
        let read = Document::parse(&bytes).unwrap();
        assert_eq!((read.shape, read.memory), (example().shape, example().memory));
    }

    #[test]
    fn each_damaged_byte_is_noticed() {
        let bytes = example().to_bytes().unwrap();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 4;
            assert!(Document::parse(&damaged).is_err(), "byte {at}");
        }
        for length in 0..bytes.len() {
            assert!(Document::parse(&bytes[..length]).is_err(), "cut to {length}");
        }
    }

    #[test]
    fn a_newer_format_is_refused_by_its_number() {
        let reason = Document::parse(b"{\"rorqual_snapshot\":2,\"compressed\":true}\nanything").unwrap_err();
        assert!(reason.contains("format 2") && reason.contains("format 1"), "{reason}");
    }

    #[test]
    fn a_machine_of_another_shape_is_refused() {
        let then = example().shape;
        assert_eq!(then.difference(&then), None);
        let mut now = then.clone();
        now.cpus = 2;
        assert!(then.difference(&now).unwrap().contains("1 processors"));
        let mut now = then.clone();
        now.disks[1].1.modified.1 += 1;
        assert!(then.difference(&now).unwrap().contains("disk data has changed"));
        let mut now = then.clone();
        now.network = None;
        assert!(then.difference(&now).unwrap().contains("network differs"));
        let mut now = then.clone();
        now.disks.pop();
        assert!(then.difference(&now).unwrap().contains("disks differ"));
    }
}
