//! Kernel modules, loaded by `finit_module(2)` in the order of a list. `modprobe` would cost a process for each.

use std::ffi::CString;
use std::fs::File;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};
use tracing::{debug, warn};

/// One line of a module list: a file, and the parameters to load it with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Module {
    /// Relative names are below the list's folder.
    pub(crate) file: PathBuf,
    /// Parameters as `insmod` takes them, empty for most.
    pub(crate) parameters: String,
}

/// Reads a list: one module per line, a file name and optionally parameters after it. Empty lines and lines that begin
/// with `#` are ignored.
pub(crate) fn parse_list(text: &str) -> Vec<Module> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let (file, parameters) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            Module { file: PathBuf::from(file), parameters: parameters.trim().to_owned() }
        })
        .collect()
}

/// Loads every module of the list at `list`, relative names from `folder`. A module that cannot be loaded is logged and
/// skipped: the step that needs it fails with its own message. A kernel that has everything built in has no list.
pub(crate) fn load_list(list: &Path, folder: &Path) -> usize {
    let text = match std::fs::read_to_string(list) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return 0,
        Err(error) => {
            warn!("cannot read the module list {}: {error}", list.display());
            return 0;
        }
    };
    let mut loaded = 0;
    for module in parse_list(&text) {
        let path = folder.join(&module.file);
        match load(&path, &module.parameters) {
            Ok(()) => loaded += 1,
            Err(error) => warn!("cannot load the kernel module {}: {error}", path.display()),
        }
    }
    debug!("{loaded} modules of {} loaded", list.display());
    loaded
}

fn load(path: &Path, parameters: &str) -> std::io::Result<()> {
    let file = File::open(path)?;
    let parameters = CString::new(parameters)?;
    match finit_module(&file, &parameters, ModuleInitFlags::empty()) {
        // Built in, or loaded as a dependency of another.
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(file: &str, parameters: &str) -> Module {
        Module { file: PathBuf::from(file), parameters: parameters.to_owned() }
    }

    #[test]
    fn a_list_keeps_its_order_and_the_parameters() {
        let text = "virtio_blk.ko\n\n# the root\nerofs.ko \n/lib/x.ko  a=1 b=2 \n";
        let expected = [module("virtio_blk.ko", ""), module("erofs.ko", ""), module("/lib/x.ko", "a=1 b=2")];
        assert_eq!(parse_list(text), expected);
    }

    #[test]
    fn an_empty_list_names_no_module() {
        assert_eq!(parse_list("\n \n#x\n"), []);
    }

    #[test]
    fn a_list_that_is_missing_loads_nothing() {
        assert_eq!(load_list(Path::new("/nowhere/modules.boot"), Path::new("/nowhere")), 0);
    }

    #[test]
    fn a_module_that_is_missing_does_not_stop_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let list = folder.path().join("modules.boot");
        std::fs::write(&list, "missing.ko\nalso-missing.ko\n").unwrap();
        assert_eq!(load_list(&list, folder.path()), 0);
    }
}
