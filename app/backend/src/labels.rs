//! Converts labels and variables from the engine's form to the contract's.

use std::collections::BTreeMap;

use crate::contract::{ComposeMember, NameValue};

/// Labels set by Compose.
const PROJECT: &str = "com.docker.compose.project";
const SERVICE: &str = "com.docker.compose.service";
const FOLDER: &str = "com.docker.compose.project.working_dir";

/// Name and value pairs, in the order of the map.
pub(crate) fn pairs(map: impl IntoIterator<Item = (String, String)>) -> Vec<NameValue> {
    map.into_iter().map(|(name, value)| NameValue { name, value }).collect()
}

/// Splits an environment variable, `NAME=value`.
pub(crate) fn variable(line: &str) -> NameValue {
    let (name, value) = line.split_once('=').unwrap_or((line, ""));
    NameValue { name: name.to_owned(), value: value.to_owned() }
}

/// The Compose project of a labelled object.
pub(crate) fn project(labels: &BTreeMap<String, String>) -> Option<String> {
    labels.get(PROJECT).cloned()
}

/// The Compose project and service of a labelled container.
pub(crate) fn compose(labels: &BTreeMap<String, String>) -> Option<ComposeMember> {
    Some(ComposeMember {
        project: project(labels)?,
        service: labels.get(SERVICE).cloned().unwrap_or_default(),
        folder: labels.get(FOLDER).cloned(),
    })
}
