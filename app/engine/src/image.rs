//! The guest image: found, and verified against its manifest before a machine starts from it.

use std::{
    collections::BTreeMap,
    env, fs,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Component, Path, PathBuf},
};

use rorqual_vmm_protocol::Accelerator;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::{config::Config, error::Coded, home::Home};

const MANIFEST: &str = "manifest.json";
/// Advice for a damaged image.
const REMEDY: &str = "build the image again with `make image`, or install Rorqual again";

/// Why a machine cannot start from an image.
#[derive(Debug, Error)]
pub enum ImageError {
    /// No image was found.
    #[error("no guest image found in {}",
        .0.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", "))]
    Missing(Vec<PathBuf>),
    /// The image is for another architecture.
    #[error("the guest image {directory} is for {architecture} computers, but this one is {}",
        env::consts::ARCH, directory = directory.display())]
    OtherArchitecture {
        /// The image.
        directory: PathBuf,
        /// Its architecture.
        architecture: String,
    },
    /// The manifest is malformed.
    #[error("the guest image's manifest {path} is damaged: {problem}", path = path.display())]
    BadManifest {
        /// The manifest.
        path: PathBuf,
        /// The defect.
        problem: String,
    },
    /// A file's size differs from the manifest's.
    #[error("the guest image file {path} is damaged: it has {found} bytes instead of {expected}",
        path = path.display())]
    WrongSize {
        /// The file.
        path: PathBuf,
        /// Its size, in bytes.
        found: u64,
        /// The manifest's size, in bytes.
        expected: u64,
    },
    /// A file's content differs from the manifest's.
    #[error("the guest image file {path} is damaged: its sha256 is not the one in {MANIFEST}", path = path.display())]
    WrongContents {
        /// The file.
        path: PathBuf,
    },
    /// A file cannot be read.
    #[error("cannot read the guest image file {path}: {source}", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The manifest lacks a file that the accelerator needs.
    #[error("the guest image {directory} has no {file}, which the {accelerator} accelerator needs",
        directory = directory.display())]
    Incomplete {
        /// The image.
        directory: PathBuf,
        /// The missing file, relative to the image.
        file: &'static str,
        /// The accelerator.
        accelerator: &'static str,
    },
}

impl Coded for ImageError {
    fn code(&self) -> &'static str {
        match self {
            Self::Missing(_) => "image-missing",
            Self::OtherArchitecture { .. } => "image-foreign",
            Self::BadManifest { .. }
            | Self::WrongSize { .. }
            | Self::WrongContents { .. }
            | Self::Unreadable { .. }
            | Self::Incomplete { .. } => "image-damaged",
        }
    }

    fn fix(&self) -> Option<String> {
        Some(match self {
            Self::Missing(_) => "build one with `make image`, or set RORQUAL_IMAGE to the directory of one".to_owned(),
            Self::OtherArchitecture { .. } => {
                format!("use an image for {}: `make image` on such a computer builds one", env::consts::ARCH)
            }
            Self::BadManifest { .. }
            | Self::WrongSize { .. }
            | Self::WrongContents { .. }
            | Self::Unreadable { .. }
            | Self::Incomplete { .. } => REMEDY.to_owned(),
        })
    }
}

#[cfg(test)]
crate::error::tests::samples!(ImageError {
    Missing => Self::Missing(vec!["/h/images".into(), "/usr/share/rorqual/images".into()]),
    OtherArchitecture => Self::OtherArchitecture { directory: "/i".into(), architecture: "aarch64".to_owned() },
    BadManifest => Self::BadManifest { path: "/i/manifest.json".into(), problem: "it names no file".to_owned() },
    WrongSize => Self::WrongSize { path: "/i/root.erofs".into(), found: 1, expected: 2 },
    WrongContents => Self::WrongContents { path: "/i/root.erofs".into() },
    Unreadable => Self::Unreadable { path: "/i/root.erofs".into(), source: crate::error::tests::refusal() },
    Incomplete => Self::Incomplete { directory: "/i".into(), file: "kvm/vmlinux", accelerator: "kvm" },
});

#[derive(Debug, Deserialize)]
struct Manifest {
    version: String,
    architecture: String,
    #[serde(default)]
    kernels: BTreeMap<String, String>,
    files: Vec<ManifestFile>,
}

#[derive(Debug, Deserialize)]
struct ManifestFile {
    path: PathBuf,
    bytes: u64,
    sha256: String,
}

/// A guest image with a valid manifest; [`Image::verify`] checks its files.
#[derive(Debug)]
pub struct Image {
    directory: PathBuf,
    manifest: Manifest,
}

/// A file's metadata when its content was last verified; while it is unchanged, the file need not be read again.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Verified {
    bytes: u64,
    modified_seconds: i64,
    modified_nanoseconds: i64,
    inode: u64,
    device: u64,
    sha256: String,
}

impl Image {
    /// Finds the image to use, in this order: `RORQUAL_IMAGE`, the settings, the newest in the state directory, beside
    /// the executable.
    pub fn locate(home: &Home, config: &Config) -> Result<Self, ImageError> {
        if let Some(named) = env::var_os("RORQUAL_IMAGE").filter(|value| !value.is_empty()) {
            return Self::open(PathBuf::from(named));
        }
        if let Some(named) = &config.image {
            return Self::open(named.clone());
        }
        let mut places = vec![home.images_directory()];
        if let Some(beside) = env::current_exe().ok().as_deref().and_then(Path::parent) {
            places.extend(["images", "../images", "../share/rorqual/images"].map(|place| beside.join(place)));
        }
        match places.iter().find_map(|place| newest(place)) {
            Some(directory) => Self::open(directory),
            None => Err(ImageError::Missing(places)),
        }
    }

    /// Reads the manifest of the image in `directory`.
    pub fn open(directory: PathBuf) -> Result<Self, ImageError> {
        let path = directory.join(MANIFEST);
        let text = fs::read_to_string(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => ImageError::Missing(vec![directory.clone()]),
            _ => ImageError::Unreadable { path: path.clone(), source },
        })?;
        let bad = |problem: String| ImageError::BadManifest { path: path.clone(), problem };
        let manifest: Manifest = serde_json::from_str(&text).map_err(|error| bad(error.to_string()))?;
        if let Some(file) = manifest.files.iter().find(|file| !stays_inside(&file.path)) {
            return Err(bad(format!("it names {}, which is outside", file.path.display())));
        }
        if manifest.architecture != env::consts::ARCH {
            return Err(ImageError::OtherArchitecture { directory, architecture: manifest.architecture });
        }
        // The machine's processes get absolute paths, since they run in other directories.
        let directory = fs::canonicalize(&directory)
            .map_err(|source| ImageError::Unreadable { path: directory.clone(), source })?;
        Ok(Self { directory, manifest })
    }

    /// Checks the size of every file, and the content of those that changed since they were last verified.
    pub fn verify(&self, home: &Home) -> Result<(), ImageError> {
        let memory = home.image_verified();
        // An unreadable record means that nothing is verified yet.
        let mut known: BTreeMap<PathBuf, Verified> =
            fs::read(&memory).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        let mut learned = false;
        for file in &self.manifest.files {
            let path = self.directory.join(&file.path);
            let unreadable = |source| ImageError::Unreadable { path: path.clone(), source };
            let metadata = fs::metadata(&path).map_err(unreadable)?;
            if metadata.len() != file.bytes {
                return Err(ImageError::WrongSize { found: metadata.len(), expected: file.bytes, path });
            }
            let sound = Verified {
                bytes: metadata.len(),
                modified_seconds: metadata.mtime(),
                modified_nanoseconds: metadata.mtime_nsec(),
                inode: metadata.ino(),
                device: metadata.dev(),
                sha256: file.sha256.clone(),
            };
            if known.get(&path) == Some(&sound) {
                continue;
            }
            if sha256(&path).map_err(unreadable)? != file.sha256.to_lowercase() {
                return Err(ImageError::WrongContents { path });
            }
            known.insert(path, sound);
            learned = true;
        }
        if learned {
            known.retain(|path, _| path.exists());
            let aside = memory.with_extension("new");
            let text = serde_json::to_vec(&known).unwrap_or_default();
            if let Err(error) = fs::write(&aside, text).and_then(|()| fs::rename(&aside, &memory)) {
                tracing::warn!("cannot record in {} that the image is verified: {error}", memory.display());
            }
        }
        Ok(())
    }

    /// Version of the image.
    pub fn version(&self) -> &str {
        &self.manifest.version
    }

    /// Its directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Release of its kernel for an accelerator, as `uname -r` prints it; empty if unknown.
    pub fn kernel_release(&self, accelerator: &str) -> &str {
        self.manifest.kernels.get(accelerator).map_or("", String::as_str)
    }

    /// The root file system.
    pub fn root(&self) -> PathBuf {
        self.directory.join("root.erofs")
    }

    /// Kernel and initramfs for an accelerator.
    pub fn kernel(&self, accelerator: Accelerator) -> Result<(PathBuf, PathBuf), ImageError> {
        let (kernel, initramfs) = kernel_files(accelerator);
        for file in [kernel, initramfs, "root.erofs"] {
            if !self.manifest.files.iter().any(|entry| entry.path == Path::new(file)) {
                let accelerator = accelerator.name();
                return Err(ImageError::Incomplete { directory: self.directory.clone(), file, accelerator });
            }
        }
        Ok((self.directory.join(kernel), self.directory.join(initramfs)))
    }
}

/// Kernel and initramfs of an accelerator, below the image's directory.
fn kernel_files(accelerator: Accelerator) -> (&'static str, &'static str) {
    match accelerator {
        Accelerator::Kvm => ("kvm/vmlinux", "kvm/initramfs.img"),
        Accelerator::Uml => ("uml/linux", "uml/initramfs.img"),
    }
}

fn stays_inside(path: &Path) -> bool {
    path.components().all(|part| matches!(part, Component::Normal(_)))
}

/// The image with the highest version in a folder of images.
fn newest(folder: &Path) -> Option<PathBuf> {
    let images =
        fs::read_dir(folder).ok()?.filter_map(Result::ok).filter(|entry| entry.path().join(MANIFEST).is_file());
    images.max_by_key(|entry| version_key(&entry.file_name().to_string_lossy())).map(|entry| entry.path())
}

/// Sort key of a version, with numbers in numeric order: 0.10 after 0.9.
fn version_key(version: &str) -> Vec<(u64, String)> {
    let parts = version.split(|character: char| !character.is_ascii_alphanumeric());
    parts.map(|part| part.parse().map_or_else(|_| (0, part.to_owned()), |number| (number, String::new()))).collect()
}

fn sha256(path: &Path) -> io::Result<String> {
    let mut file = fs::File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            count => hash.update(&buffer[..count]),
        }
    }
    Ok(hash.finalize().iter().fold(String::with_capacity(64), |text, byte| text + &format!("{byte:02x}")))
}

/// Writes an image of three small files with a valid manifest.
#[cfg(test)]
pub(crate) fn write_small_image(home: &Home) -> PathBuf {
    let directory = home.images_directory().join("1.0");
    for kernel in ["uml", "kvm"] {
        fs::create_dir_all(directory.join(kernel)).unwrap();
    }
    let files = ["root.erofs", "uml/linux", "uml/initramfs.img", "kvm/vmlinux", "kvm/initramfs.img"].map(|path| {
        fs::write(directory.join(path), path.repeat(10)).unwrap();
        serde_json::json!({"path": path, "bytes": path.len() * 10, "sha256": sha256(&directory.join(path)).unwrap()})
    });
    let manifest = serde_json::json!({
        "version": "1.0", "architecture": env::consts::ARCH, "created": "2025-01-01T00:00:00Z",
        "packages": {}, "kernels": {"uml": "6.12"}, "files": files,
    });
    fs::write(directory.join(MANIFEST), manifest.to_string()).unwrap();
    directory
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixture {
        _parent: tempfile::TempDir,
        home: Home,
        directory: PathBuf,
    }

    fn image() -> Fixture {
        let parent = tempfile::tempdir().unwrap();
        let home = Home::at(parent.path().join("h")).unwrap();
        let directory = write_small_image(&home);
        Fixture { _parent: parent, home, directory }
    }

    fn opened(fixture: &Fixture) -> Image {
        Image::open(fixture.directory.clone()).unwrap()
    }

    #[test]
    fn sha256_is_the_known_one() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("f"), "abc").unwrap();
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256(&directory.path().join("f")).unwrap(), expected);
    }

    #[test]
    fn a_sound_image_verifies_and_names_its_kernel() {
        let fixture = image();
        let mut image = opened(&fixture);
        image.verify(&fixture.home).unwrap();
        assert!(image.kernel(Accelerator::Uml).unwrap().0.ends_with("uml/linux"));
        assert!(image.kernel(Accelerator::Kvm).unwrap().1.ends_with("kvm/initramfs.img"));
        assert_eq!(image.kernel_release("uml"), "6.12");
        image.manifest.files.retain(|entry| entry.path != Path::new("kvm/vmlinux"));
        assert!(matches!(image.kernel(Accelerator::Kvm), Err(ImageError::Incomplete { file: "kvm/vmlinux", .. })));
    }

    #[test]
    fn a_truncated_file_is_named() {
        let fixture = image();
        fs::write(fixture.directory.join("root.erofs"), "short").unwrap();
        let error = opened(&fixture).verify(&fixture.home).unwrap_err();
        assert!(matches!(&error, ImageError::WrongSize { path, found: 5, .. } if path.ends_with("root.erofs")));
        assert!(error.fix().unwrap().contains("make image"));
    }

    #[test]
    fn a_file_with_other_contents_of_the_same_size_is_named_even_after_it_was_sound() {
        let fixture = image();
        opened(&fixture).verify(&fixture.home).unwrap();
        let path = fixture.directory.join("uml/linux");
        let length = fs::read(&path).unwrap().len();
        fs::write(&path, "x".repeat(length)).unwrap();
        let error = opened(&fixture).verify(&fixture.home).unwrap_err();
        assert!(matches!(&error, ImageError::WrongContents { path } if path.ends_with("uml/linux")), "{error}");
    }

    #[test]
    fn a_file_found_sound_is_not_read_again_until_it_changes() {
        let fixture = image();
        opened(&fixture).verify(&fixture.home).unwrap();
        // Only a file that is not read can pass with a wrong hash.
        let path = fixture.directory.join("root.erofs");
        let before = fs::metadata(&path).unwrap();
        let text = fs::read_to_string(&path).unwrap().to_uppercase();
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        io::Write::write_all(&mut &file, text.as_bytes()).unwrap();
        file.set_modified(before.modified().unwrap()).unwrap();
        opened(&fixture).verify(&fixture.home).unwrap();
        file.set_modified(std::time::UNIX_EPOCH).unwrap();
        assert!(opened(&fixture).verify(&fixture.home).is_err());
    }

    #[test]
    fn a_missing_file_and_a_damaged_manifest_are_named() {
        let fixture = image();
        fs::remove_file(fixture.directory.join("root.erofs")).unwrap();
        assert!(matches!(opened(&fixture).verify(&fixture.home), Err(ImageError::Unreadable { .. })));
        fs::write(fixture.directory.join(MANIFEST), "{").unwrap();
        assert!(matches!(Image::open(fixture.directory.clone()), Err(ImageError::BadManifest { .. })));
        let outside = r#"{"version":"1","architecture":"x","files":[{"path":"../x","bytes":1,"sha256":""}]}"#;
        fs::write(fixture.directory.join(MANIFEST), outside).unwrap();
        assert!(Image::open(fixture.directory.clone()).unwrap_err().to_string().contains("outside"));
    }

    #[test]
    fn the_newest_version_is_taken_by_number() {
        let parent = tempfile::tempdir().unwrap();
        for version in ["0.9.0", "0.10.0", "0.2.1", "1.0-broken"] {
            fs::create_dir(parent.path().join(version)).unwrap();
            if !version.ends_with("broken") {
                fs::write(parent.path().join(version).join(MANIFEST), "{}").unwrap();
            }
        }
        assert_eq!(newest(parent.path()).unwrap(), parent.path().join("0.10.0"));
        assert_eq!(newest(&parent.path().join("none")), None);
    }
}
