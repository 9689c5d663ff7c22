//! Builds the `docker run` command that creates an equal container. Options equal to the image's defaults are left out.

use rorqual_engine::docker::model::{ContainerConfig, ContainerInspect, RestartPolicy};

/// A restart policy as docker writes it: `no`, `always`, `on-failure:3`.
pub(super) fn restart_policy(policy: &RestartPolicy) -> String {
    match policy.name.as_str() {
        "" => "no".to_owned(),
        "on-failure" if policy.maximum_retry_count > 0 => format!("on-failure:{}", policy.maximum_retry_count),
        name => name.to_owned(),
    }
}

pub(super) fn docker_run(container: &ContainerInspect, image: Option<&ContainerConfig>) -> String {
    let (config, host) = (&container.config, &container.host_config);
    let none = ContainerConfig::default();
    let image = image.unwrap_or(&none);
    let mut words: Vec<String> = vec!["docker".into(), "run".into(), "-d".into()];
    let mut option = |name: &str, value: &str| words.extend([name.to_owned(), value.to_owned()]);
    option("--name", container.name.trim_start_matches('/'));
    let restart = restart_policy(&host.restart_policy);
    if restart != "no" {
        option("--restart", &restart);
    }
    if !matches!(host.network_mode.as_str(), "" | "default" | "bridge") {
        option("--network", &host.network_mode);
    }
    for (port, bindings) in &host.port_bindings {
        let port = port.strip_suffix("/tcp").unwrap_or(port);
        for binding in bindings.iter().flatten() {
            let address = match binding.address.as_str() {
                "" => String::new(),
                address if address.contains(':') => format!("[{address}]:"),
                address => format!("{address}:"),
            };
            option("-p", &format!("{address}{}:{port}", binding.host_port));
        }
    }
    for bind in &host.binds {
        option("-v", bind);
    }
    for variable in config.env.iter().filter(|variable| !image.env.contains(variable)) {
        option("-e", variable);
    }
    if config.user != image.user {
        option("-u", &config.user);
    }
    if config.working_dir != image.working_dir {
        option("-w", &config.working_dir);
    }
    // Docker's default hostname is the start of the identifier.
    if !config.hostname.is_empty() && !container.id.starts_with(&config.hostname) {
        option("--hostname", &config.hostname);
    }
    for capability in &host.cap_add {
        option("--cap-add", capability);
    }
    for capability in &host.cap_drop {
        option("--cap-drop", capability);
    }
    if host.memory > 0 {
        option("--memory", &host.memory.to_string());
    }
    if host.nano_cpus > 0 {
        option("--cpus", &thousandths(host.nano_cpus));
    }
    let own_labels = config.labels.iter().filter(|(name, value)| image.labels.get(*name) != Some(value));
    for (name, value) in own_labels {
        option("--label", &format!("{name}={value}"));
    }
    let mut rest: Vec<&String> = config.cmd.iter().collect();
    if config.entrypoint != image.entrypoint
        && let Some((program, arguments)) = config.entrypoint.split_first()
    {
        option("--entrypoint", program);
        rest = arguments.iter().chain(rest).collect();
    } else if config.cmd == image.cmd {
        rest.clear();
    }
    let rest: Vec<String> = rest.into_iter().cloned().collect();
    for (flag, set) in [
        ("--rm", host.auto_remove),
        ("--privileged", host.privileged),
        ("--read-only", host.readonly_rootfs),
        ("-t", config.tty),
        ("-i", config.open_stdin),
    ] {
        if set {
            words.push(flag.to_owned());
        }
    }
    words.push(config.image.clone());
    words.extend(rest);
    words.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" ")
}

/// Formats billionths: 1.5 for 1,500,000,000.
fn thousandths(nano: i64) -> String {
    let text = format!("{}.{:03}", nano / 1_000_000_000, nano % 1_000_000_000 / 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Quotes a word for a shell, if it needs quotes.
fn quote(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_@%+=:,./-".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inspect(text: &str) -> ContainerInspect {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn what_the_user_asked_for_is_there_and_what_the_image_says_is_not() {
        let container = inspect(
            r#"{"Id":"abc123","Name":"/web",
                "Config":{"Image":"nginx","Env":["PATH=/bin","GREETING=it's me"],
                    "Cmd":["nginx","-g","daemon off;"],"Hostname":"abc123"},
                "HostConfig":{"Binds":["data:/data:ro"],
                    "PortBindings":{"80/tcp":[{"HostIp":"","HostPort":"8080"}],
                        "53/udp":[{"HostIp":"::1","HostPort":"53"}]},
                    "NetworkMode":"shop","RestartPolicy":{"Name":"on-failure","MaximumRetryCount":3},
                    "AutoRemove":false,"NanoCpus":1500000000}}"#,
        );
        let image: ContainerConfig =
            serde_json::from_str(r#"{"Env":["PATH=/bin"],"Cmd":["nginx","-g","daemon off;"]}"#).unwrap();
        assert_eq!(
            docker_run(&container, Some(&image)),
            "docker run -d --name web --restart on-failure:3 --network shop -p '[::1]:53:53/udp' -p 8080:80 \
             -v data:/data:ro -e 'GREETING=it'\\''s me' --cpus 1.5 nginx"
        );
    }

    #[test]
    fn another_entry_point_takes_its_arguments_along() {
        let container = inspect(
            r#"{"Name":"/x",
                "Config":{"Image":"i","Entrypoint":["/bin/sh","-c"],"Cmd":["echo hi"],"Tty":true},
                "HostConfig":{"AutoRemove":true}}"#,
        );
        assert_eq!(docker_run(&container, None), "docker run -d --name x --entrypoint /bin/sh --rm -t i -c 'echo hi'");
    }
}
