//! The files of the pages: their location and media types.

use std::{
    env,
    path::{Component, Path, PathBuf},
};

use crate::{error::CommandError, failure::Failure};

/// The directory of the pages: `RORQUAL_UI`, or beside the executable, installed or built.
pub(super) fn find(program: &Path) -> Result<PathBuf, Failure> {
    let beside = program.parent().unwrap_or(Path::new("/"));
    let chosen = env::var_os("RORQUAL_UI").map(PathBuf::from);
    let places = ["../share/rorqual/ui", "../../ui/dist"].map(|place| beside.join(place));
    let found = chosen.into_iter().chain(places).find(|place| place.join("index.html").is_file());
    found.ok_or_else(|| CommandError::PagesMissing(program.to_owned()).into())
}

/// The file for a URL path; `None` if the path leaves the directory.
pub(super) fn file(directory: &Path, path: &str) -> Option<PathBuf> {
    let path = Path::new(path.trim_start_matches('/'));
    let inside = path.components().all(|part| matches!(part, Component::Normal(_)));
    let path = if path.as_os_str().is_empty() { Path::new("index.html") } else { path };
    inside.then(|| directory.join(path))
}

/// The media type for a file name extension, for the types the pages consist of.
pub(super) fn media_type(path: &Path) -> &'static str {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("json") => "application/json",
        Some("png") => "image/png",
        Some("woff2") => "font/woff2",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_address_leads_out_of_the_directory() {
        let directory = Path::new("/ui");
        assert_eq!(file(directory, "/"), Some("/ui/index.html".into()));
        assert_eq!(file(directory, "/assets/a.js"), Some("/ui/assets/a.js".into()));
        for out in ["/../etc/passwd", "/assets/../../x", "/./../x"] {
            assert_eq!(file(directory, out), None, "{out}");
        }
    }
}
