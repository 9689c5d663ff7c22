//! Pull and push, by layer.

use rorqual_engine::docker::{DockerError, JsonLines, Query, model::ProgressLine};
use std::sync::Arc;

use super::{
    Inner,
    contract::{Bytes, Failure, ImagePull, ImageTarget, LayerProgress, PullProgress},
    failure, registries,
    stream::Channel,
};

/// The name of an image: repository, and tag or digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reference {
    /// `host/path` without tag or digest.
    pub(super) name: String,
    /// A tag, or a digest `sha256:…`.
    pub(super) tag: Option<String>,
}

impl Reference {
    pub(super) fn parse(text: &str) -> Result<Self, Failure> {
        let text = text.trim();
        if text.is_empty() || text.contains(char::is_whitespace) || text.starts_with('-') {
            return Err(failure::bad_request(format!("{text:?} is not an image name; an example is \"nginx:alpine\"")));
        }
        if let Some((name, digest)) = text.split_once('@') {
            return Ok(Self { name: name.to_owned(), tag: Some(digest.to_owned()) });
        }
        // A colon before the last slash belongs to a port.
        match text.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')) {
            Some((name, tag)) => Ok(Self { name: name.to_owned(), tag: Some(tag.to_owned()) }),
            None => Ok(Self { name: text.to_owned(), tag: None }),
        }
    }

    pub(super) fn tag_or_latest(&self) -> &str {
        self.tag.as_deref().unwrap_or("latest")
    }
}

/// The state of all layers as reported so far.
#[derive(Debug, Default)]
pub(super) struct Gathered(PullProgress);

impl Gathered {
    /// Parses a line. Returns whether it changed anything.
    pub(super) fn take(&mut self, line: ProgressLine) -> Result<bool, Failure> {
        if let Some(error) = line.error {
            return Err(DockerError::Refused { status: 500, message: error }.into());
        }
        if line.status.is_empty() {
            return Ok(false);
        }
        // In "Pulling from library/nginx" the identifier is the tag, not a layer.
        if line.id.is_empty() || line.status.starts_with("Pulling from") {
            self.0.status = line.status;
            return Ok(true);
        }
        let complete = ["Pull complete", "Already exists", "Layer already exists", "Pushed", "Mounted from"]
            .iter()
            .any(|end| line.status.starts_with(end));
        let layer = LayerProgress {
            id: line.id,
            status: line.status,
            done: Bytes(line.detail.current),
            total: Bytes(line.detail.total),
            complete,
        };
        match self.0.layers.iter_mut().find(|known| known.id == layer.id) {
            Some(known) if *known == layer => return Ok(false),
            Some(known) => *known = layer,
            None => self.0.layers.push(layer),
        }
        Ok(true)
    }

    pub(super) fn progress(&self) -> &PullProgress {
        &self.0
    }
}

async fn follow(mut lines: JsonLines, channel: &Channel) -> Result<(), Failure> {
    let mut gathered = Gathered::default();
    while let Some(value) = lines.next().await? {
        if gathered.take(serde_json::from_value(value).unwrap_or_default())? {
            channel.event(gathered.progress()).await?;
        }
    }
    Ok(())
}

/// Starts a pull.
pub(super) async fn begin(inner: &Inner, reference: &Reference, platform: Option<&str>) -> Result<JsonLines, Failure> {
    let query = Query::new("/images/create", &[])
        .with("fromImage", &reference.name)
        .with("tag", reference.tag_or_latest())
        .maybe("platform", platform);
    let authentication = registries::authentication(&reference.name).await;
    Ok(inner.docker.act_lines(&query, authentication.as_deref()).await?)
}

pub(super) async fn pull(inner: Arc<Inner>, asked: ImagePull, channel: Channel) -> Result<(), Failure> {
    let lines = begin(&inner, &Reference::parse(&asked.reference)?, asked.platform.as_deref()).await?;
    follow(lines, &channel).await
}

pub(super) async fn push(inner: Arc<Inner>, asked: ImageTarget, channel: Channel) -> Result<(), Failure> {
    let reference = Reference::parse(&asked.image)?;
    let query = Query::new("/images/{}/push", &[&reference.name]).with("tag", reference.tag_or_latest());
    // The engine requires the header, even if it is empty.
    let authentication = registries::authentication(&reference.name).await.unwrap_or_else(|| "e30=".to_owned());
    follow(inner.docker.act_lines(&query, Some(&authentication)).await?, &channel).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_parted() {
        let parts = |text: &str| Reference::parse(text).map(|reference| (reference.name, reference.tag));
        assert_eq!(parts("nginx").unwrap(), ("nginx".into(), None));
        assert_eq!(parts("localhost:5000/web").unwrap(), ("localhost:5000/web".into(), None));
        assert_eq!(parts(" localhost:5000/web:1.0 ").unwrap(), ("localhost:5000/web".into(), Some("1.0".into())));
        assert_eq!(parts("a@sha256:00").unwrap(), ("a".into(), Some("sha256:00".into())));
        for wrong in ["", "a b", "--x"] {
            assert_eq!(parts(wrong).unwrap_err().code, "bad-request");
        }
    }

    #[test]
    fn layers_are_gathered_and_an_error_ends_it() {
        let line = |text: &str| serde_json::from_str::<ProgressLine>(text).unwrap();
        let mut gathered = Gathered::default();
        assert!(gathered.take(line(r#"{"status":"Pulling from x","id":"latest"}"#)).unwrap());
        assert!(
            gathered
                .take(line(r#"{"status":"Downloading","id":"a1","progressDetail":{"current":3,"total":9}}"#))
                .unwrap()
        );
        assert!(
            !gathered
                .take(line(r#"{"status":"Downloading","id":"a1","progressDetail":{"current":3,"total":9}}"#))
                .unwrap()
        );
        assert!(gathered.take(line(r#"{"status":"Pull complete","id":"a1"}"#)).unwrap());
        assert_eq!(gathered.progress().layers.len(), 1);
        assert!(gathered.progress().layers[0].complete);
        assert_eq!(gathered.take(line(r#"{"error":"unauthorized: no"}"#)).unwrap_err().code, "not-allowed");
    }
}
