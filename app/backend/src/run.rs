//! `docker run -d`: pulls the image if it is missing, then creates and starts the container.

use std::{collections::BTreeMap, sync::Arc};

use rorqual_engine::{docker::Query, error::Coded};
use serde_json::{Value, json};

use super::{
    Inner,
    contract::{ContainerRun, ContainerRunEvent, Created, Failure},
    failure,
    pull::{self, Gathered, Reference},
    stream::Channel,
};

pub(super) async fn run(inner: Arc<Inner>, asked: ContainerRun, channel: Channel) -> Result<(), Failure> {
    let body = body(&asked)?;
    let query = Query::new("/containers/create", &[])
        .maybe("name", asked.name.as_deref())
        .maybe("platform", asked.platform.as_deref());
    let made = match inner.docker.post::<Value>(&query, &body).await {
        Err(error) if error.code() == "not-found" && error.to_string().contains("No such image") => {
            pull_first(&inner, &asked, &channel).await?;
            inner.docker.post::<Value>(&query, &body).await?
        }
        other => other?,
    };
    let id = made["Id"]
        .as_str()
        .ok_or_else(|| failure::unexpected("the engine returned no identifier for the container".to_owned()))?
        .to_owned();
    let warnings = made["Warnings"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|warning| warning.as_str().map(str::to_owned))
        .collect();
    channel.event(&ContainerRunEvent::Created { created: Created { id: id.clone(), warnings } }).await?;
    if let Err(error) = inner.docker.act(&Query::new("/containers/{}/start", &[&id]), None).await {
        // The user asked for a running container; one that cannot start is useless and occupies its name.
        inner.docker.delete(&Query::new("/containers/{}", &[&id]).with("force", "1")).await.ok();
        return Err(error.into());
    }
    channel.event(&ContainerRunEvent::Started { id }).await
}

async fn pull_first(inner: &Inner, asked: &ContainerRun, channel: &Channel) -> Result<(), Failure> {
    let mut lines = pull::begin(inner, &Reference::parse(&asked.image)?, asked.platform.as_deref()).await?;
    let mut gathered = Gathered::default();
    while let Some(value) = lines.next().await? {
        if gathered.take(serde_json::from_value(value).unwrap_or_default())? {
            channel.event(&ContainerRunEvent::Pulling { progress: gathered.progress().clone() }).await?;
        }
    }
    Ok(())
}

/// Builds the engine's request from the form.
fn body(asked: &ContainerRun) -> Result<Value, Failure> {
    Reference::parse(&asked.image)?;
    let mut exposed = BTreeMap::new();
    let mut bindings: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for text in &asked.ports {
        for (port, binding) in published(text)? {
            exposed.insert(port.clone(), json!({}));
            bindings.entry(port).or_default().extend(binding);
        }
    }
    let (mut binds, mut anonymous) = (Vec::new(), BTreeMap::new());
    for volume in &asked.volumes {
        // A single part is a path in the container: an anonymous volume.
        let target = volume.split(':').nth(1).unwrap_or(volume);
        if !target.starts_with('/') {
            return Err(failure::bad_request(format!(
                "{volume:?} is not a volume; an example is \"data:/var/lib/data\" or \"data:/var/lib/data:ro\""
            )));
        }
        if volume.contains(':') {
            binds.push(volume.clone());
        } else {
            anonymous.insert(volume.clone(), json!({}));
        }
    }
    let environment: Vec<String> =
        asked.environment.iter().map(|variable| format!("{}={}", variable.name, variable.value)).collect();
    Ok(json!({
        "Image": asked.image.trim(),
        "Cmd": (!asked.command.is_empty()).then_some(&asked.command),
        "Env": environment,
        "ExposedPorts": exposed,
        "Volumes": anonymous,
        "Tty": asked.interactive,
        "OpenStdin": asked.interactive,
        "HostConfig": {
            "PortBindings": bindings,
            "Binds": binds,
            "NetworkMode": asked.network.as_deref().unwrap_or("default"),
            "RestartPolicy": restart_policy(asked.restart.as_deref())?,
            "AutoRemove": asked.remove,
        },
    }))
}

fn restart_policy(text: Option<&str>) -> Result<Value, Failure> {
    let text = text.unwrap_or("no");
    let (name, count) = match text.split_once(':') {
        Some((name, count)) => (name, count.parse::<u32>().ok()),
        None => (text, Some(0)),
    };
    match (name, count) {
        ("no" | "always" | "unless-stopped", Some(0)) | ("on-failure", Some(_)) => {
            Ok(json!({"Name": name, "MaximumRetryCount": count}))
        }
        _ => Err(failure::bad_request(format!(
            "{text:?} is not a restart policy (no, on-failure, on-failure:3, unless-stopped or always)"
        ))),
    }
}

/// Parses the form of `-p`: `[[address:]host:]container[/protocol]`. Each port may be a range; IPv6 addresses are in
/// brackets.
fn published(text: &str) -> Result<Vec<(String, Option<Value>)>, Failure> {
    let wrong = || {
        failure::bad_request(format!(
            "{text:?} is not a port; examples are \"8080:80\", \"127.0.0.1:8080:80\" and \"53:53/udp\""
        ))
    };
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    if !matches!(protocol, "tcp" | "udp" | "sctp") {
        return Err(wrong());
    }
    let (rest, container) = ports.rsplit_once(':').unwrap_or(("", ports));
    let (address, host) = if let Some(rest) = rest.strip_prefix('[') {
        let (address, host) = rest.split_once(']').ok_or_else(wrong)?;
        (address, host.strip_prefix(':').unwrap_or(""))
    } else {
        rest.rsplit_once(':').unwrap_or(("", rest))
    };
    if !address.is_empty() && address.parse::<std::net::IpAddr>().is_err() {
        return Err(wrong());
    }
    let range = |text: &str| -> Option<(u16, u16)> {
        let (from, to) = text.split_once('-').unwrap_or((text, text));
        let (from, to): (u16, u16) = (from.parse().ok()?, to.parse().ok()?);
        (from > 0 && from <= to).then_some((from, to))
    };
    let (from, to) = range(container).ok_or_else(wrong)?;
    let host_from = match host {
        // Without a port on this computer, the engine chooses one.
        "" => None,
        host => {
            let (host_from, host_to) = range(host).ok_or_else(wrong)?;
            if host_to - host_from != to - from {
                return Err(failure::bad_request(format!("{text:?}: both port ranges must have the same length")));
            }
            Some(host_from)
        }
    };
    Ok((0..=to - from)
        .map(|step| {
            let port = host_from.map_or(String::new(), |host| (host + step).to_string());
            (format!("{}/{protocol}", from + step), Some(json!({"HostIp": address, "HostPort": port})))
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_in_every_form() {
        let one = |text: &str| {
            published(text)
                .unwrap()
                .into_iter()
                .map(|(port, binding)| format!("{port} {}", binding.unwrap()))
                .collect::<Vec<_>>()
                .join("; ")
        };
        assert_eq!(one("80"), r#"80/tcp {"HostIp":"","HostPort":""}"#);
        assert_eq!(one("8080:80"), r#"80/tcp {"HostIp":"","HostPort":"8080"}"#);
        assert_eq!(one("127.0.0.1:53:53/udp"), r#"53/udp {"HostIp":"127.0.0.1","HostPort":"53"}"#);
        assert_eq!(one("[::1]:8080:80"), r#"80/tcp {"HostIp":"::1","HostPort":"8080"}"#);
        assert_eq!(
            one("8000-8001:80-81"),
            r#"80/tcp {"HostIp":"","HostPort":"8000"}; 81/tcp {"HostIp":"","HostPort":"8001"}"#
        );
        for wrong in ["", "x", "0", "80:x", "1-2:3", "9-8:1-2", "1.2.3:1:2", "1:2/icmp", "[::1:1:2", "70000"] {
            assert_eq!(published(wrong).unwrap_err().code, "bad-request", "{wrong}");
        }
    }

    #[test]
    fn what_cannot_be_is_said_before_the_engine_is_asked() {
        let asked = |change: fn(&mut ContainerRun)| {
            let mut asked = ContainerRun { image: "i".into(), ..ContainerRun::default() };
            change(&mut asked);
            body(&asked)
        };
        assert!(asked(|_| ()).is_ok());
        assert!(asked(|run| run.volumes = vec!["data".into()]).is_err());
        assert!(asked(|run| run.restart = Some("sometimes".into())).is_err());
        assert!(asked(|run| run.restart = Some("always:3".into())).is_err());
        let retried = asked(|run| run.restart = Some("on-failure:3".into())).unwrap();
        assert_eq!(retried["HostConfig"]["RestartPolicy"]["MaximumRetryCount"], 3);
        assert_eq!(asked(|run| run.volumes = vec!["/data".into()]).unwrap()["Volumes"], json!({"/data": {}}));
    }
}
