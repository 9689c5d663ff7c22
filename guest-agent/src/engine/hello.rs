//! The image of the first run, `rorqual/hello`, which works without a registry.

use std::path::Path;
use std::sync::Arc;

use tracing::{info, warn};

use super::state::Engine;
use crate::docker_api::{self, DOCKER_SOCKET};

const IMAGE: &str = "rorqual/hello:latest";
const ARCHIVE: &str = "/usr/lib/rorqual/hello.tar";

/// Loads the image if the engine does not have it. The engine is busy until this returns.
pub(super) async fn provide(engine: Arc<Engine>) {
    load_if_missing(&engine).await;
    engine.change(|condition| condition.busy_with(None));
}

async fn load_if_missing(engine: &Engine) {
    let socket = Path::new(DOCKER_SOCKET);
    match docker_api::has_image(socket, IMAGE).await {
        Ok(true) => return,
        Ok(false) => {}
        Err(error) => return warn!("cannot look for the image {IMAGE}: {error}"),
    }
    engine.change(|condition| condition.busy_with(Some("loading the image rorqual/hello")));
    let archive = match std::fs::read(ARCHIVE) {
        Ok(archive) => archive,
        Err(error) => return warn!("cannot load the image {IMAGE}: cannot read {ARCHIVE}: {error}"),
    };
    match docker_api::load_images(socket, &archive).await {
        Ok(()) => info!("loaded the image {IMAGE}"),
        Err(error) => warn!("cannot load the image {IMAGE}: {error}"),
    }
}
