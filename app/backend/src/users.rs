//! Which containers use an image or a volume.

use std::collections::BTreeMap;

use rorqual_engine::docker::{Query, model};

use crate::{Inner, contract::Failure};

/// Identifiers of the using containers, by the name of what they use. `uses` lists what a container uses.
pub(crate) async fn users(
    inner: &Inner,
    uses: impl Fn(&model::ContainerSummary) -> Vec<String>,
) -> Result<BTreeMap<String, Vec<String>>, Failure> {
    let all: Vec<model::ContainerSummary> =
        inner.docker.get(&Query::new("/containers/json", &[]).with("all", "1")).await?;
    let mut users: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for container in all {
        for used in uses(&container) {
            users.entry(used).or_default().push(container.id.clone());
        }
    }
    Ok(users)
}
