//! Labels and variables, from the engine's words to the contract's.

use std::collections::BTreeMap;

use crate::contract::{ComposeMember, NameValue};

/// Labels of compose.
const PROJECT: &str = "com.docker.compose.project";
const SERVICE: &str = "com.docker.compose.service";
const FOLDER: &str = "com.docker.compose.project.working_dir";

/// Names with values, in the order of the map.
pub(crate) fn pairs(map: impl IntoIterator<Item = (String, String)>) -> Vec<NameValue> {
    map.into_iter().map(|(name, value)| NameValue { name, value }).collect()
}

/// A variable of an environment, `NAME=value`.
pub(crate) fn variable(line: &str) -> NameValue {
    let (name, value) = line.split_once('=').unwrap_or((line, ""));
    NameValue { name: name.to_owned(), value: value.to_owned() }
}

/// The project a labelled thing belongs to.
pub(crate) fn project(labels: &BTreeMap<String, String>) -> Option<String> {
    labels.get(PROJECT).cloned()
}

/// The project and service a labelled container belongs to.
pub(crate) fn compose(labels: &BTreeMap<String, String>) -> Option<ComposeMember> {
    Some(ComposeMember {
        project: project(labels)?,
        service: labels.get(SERVICE).cloned().unwrap_or_default(),
        folder: labels.get(FOLDER).cloned(),
    })
}
