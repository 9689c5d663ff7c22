//! Folders of this computer, for choosing one to build.

use std::{fs, path::PathBuf, sync::Arc};

use crate::{
    Inner,
    contract::{Failure, HostFolder, HostFolderTarget},
    failure,
};

/// Names of files that describe how to build or run something.
fn is_recipe(name: &str) -> bool {
    let lower = name.to_lowercase();
    lower == "dockerfile"
        || lower == "containerfile"
        || lower.starts_with("dockerfile.")
        || lower.ends_with(".dockerfile")
        || matches!(lower.as_str(), "compose.yaml" | "compose.yml" | "docker-compose.yaml" | "docker-compose.yml")
}

pub(crate) async fn host_folder(_: &Arc<Inner>, asked: HostFolderTarget) -> Result<HostFolder, Failure> {
    let read = tokio::task::spawn_blocking(move || folder(asked));
    read.await.map_err(|error| failure::unexpected(error.to_string()))?
}

fn folder(asked: HostFolderTarget) -> Result<HostFolder, Failure> {
    let home = || std::env::var_os("HOME").map_or_else(|| PathBuf::from("/"), PathBuf::from);
    let path = asked.path.map_or_else(home, PathBuf::from);
    if !path.is_absolute() {
        return Err(failure::bad_request(format!("{} is not an absolute path", path.display())));
    }
    let unreadable = |error: std::io::Error| {
        let code = if error.kind() == std::io::ErrorKind::NotFound { "not-found" } else { "refused" };
        failure::advised!(code, format!("cannot read {}: {error}", path.display()), "choose a different folder")
    };
    let (mut folders, mut recipes) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(&path).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        // A name that is not UTF-8 could not be sent back.
        let Ok(name) = entry.file_name().into_string() else { continue };
        let Ok(metadata) = fs::metadata(entry.path()) else { continue };
        if metadata.is_dir() && !name.starts_with('.') {
            folders.push(name);
        } else if metadata.is_file() && is_recipe(&name) {
            recipes.push(name);
        }
    }
    folders.sort_by_key(|name| name.to_lowercase());
    recipes.sort();
    Ok(HostFolder {
        parent: path.parent().map(|parent| parent.display().to_string()),
        path: path.display().to_string(),
        folders,
        recipes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_shows_its_folders_and_recipes() {
        let parent = tempfile::tempdir().unwrap();
        for name in ["src", ".git", "Api"] {
            fs::create_dir(parent.path().join(name)).unwrap();
        }
        for name in ["Dockerfile", "dev.Dockerfile", "compose.yaml", "main.rs"] {
            fs::write(parent.path().join(name), "").unwrap();
        }
        let asked = |path: &str| HostFolderTarget { path: Some(path.to_owned()) };
        let found = folder(asked(parent.path().to_str().unwrap())).unwrap();
        assert_eq!(found.folders, ["Api", "src"]);
        assert_eq!(found.recipes, ["Dockerfile", "compose.yaml", "dev.Dockerfile"]);
        assert!(folder(asked("/")).unwrap().parent.is_none());
        assert_eq!(folder(asked("/no/such/folder")).unwrap_err().code, "not-found");
        assert_eq!(folder(asked("here")).unwrap_err().code, "bad-request");
    }
}
