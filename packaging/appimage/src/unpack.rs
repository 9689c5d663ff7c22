//! Unpacks a SquashFS with directories, files and symbolic links; an AppImage contains nothing else.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, BufReader, BufWriter, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink},
    path::{Component, Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use backhand::{FilesystemReader, InnerNode};

/// Unpacks the payload at `offset` of `image` into the new directory `target`.
pub(crate) fn unpack(image: &Path, offset: u64, target: &Path) -> Result<()> {
    let packed = FilesystemReader::from_reader_with_offset(BufReader::new(File::open(image)?), offset)
        .context("what is packed cannot be read")?;
    DirBuilder::new().mode(0o700).create(target).with_context(|| format!("making {}", target.display()))?;
    let mut directories = Vec::new();
    for node in packed.files() {
        let path = inside(target, &node.fullpath)?;
        let mode = u32::from(node.header.permissions) & 0o755;
        let failed = || format!("unpacking {}", path.display());
        match &node.inner {
            InnerNode::Dir(_) => {
                if path != target {
                    fs::create_dir(&path).with_context(failed)?;
                    directories.push((path, mode));
                }
            }
            InnerNode::File(file) => {
                let out =
                    OpenOptions::new().write(true).create_new(true).mode(mode).open(&path).with_context(failed)?;
                let mut out = BufWriter::new(out);
                io::copy(&mut packed.file(file).reader(), &mut out).with_context(failed)?;
                out.flush().with_context(failed)?;
            }
            InnerNode::Symlink(link) => symlink(&link.link, &path).with_context(failed)?,
            _ => bail!("{} is neither a file nor a directory", path.display()),
        }
    }
    for (path, mode) in directories {
        fs::set_permissions(&path, Permissions::from_mode(mode))?;
    }
    Ok(())
}

/// A path of the file system below `target`.
fn inside(target: &Path, path: &Path) -> Result<PathBuf> {
    let mut whole = target.to_owned();
    for part in path.components() {
        match part {
            Component::RootDir => {}
            Component::Normal(name) => whole.push(name),
            _ => bail!("{} leads out of what is packed", path.display()),
        }
    }
    Ok(whole)
}
