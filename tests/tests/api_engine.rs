//! The window's API for running containers, resource usage, images and registries. The docker client verifies it.

use std::{fs, process::ExitCode};

use anyhow::{Context, Result, ensure};
use rorqual_tests::{
    Container, IMAGE, Machine, Run, Web, docker::unique, eventually_ok, material::REGISTRY_IMAGE, suite, tests,
    web::Given,
};
use serde_json::{Value, json};

fn main() -> ExitCode {
    suite::main(
        1,
        Machine::start,
        tests![
            a_container_is_run_as_the_form_says,
            usage_of_containers_and_machine_is_reported_every_second,
            an_image_goes_out_as_a_tar_and_comes_back,
            an_image_is_pushed_and_pulled_by_layer,
            a_login_is_shared_with_docker,
            a_shell_in_the_machine_works,
        ],
    )
}

/// The form's request for a container of the test image.
fn form(name: &str, command: &[&str]) -> Value {
    json!({
        "image": IMAGE, "name": name, "ports": [], "volumes": [], "environment": [], "command": command,
        "restart": null, "network": null, "remove": false, "interactive": false, "platform": null,
    })
}

fn a_container_is_run_as_the_form_says(machine: &Machine) -> Result<()> {
    let web = Web::start(machine)?;
    let name = unique("api");
    let mut asked = form(&name, &["sh", "-c", "echo \"$GREETING\"; sleep 100000"]);
    asked["environment"] = json!([{"name": "GREETING", "value": "a  b"}]);
    asked["volumes"] = json!([format!("{name}:/kept")]);
    asked["restart"] = json!("on-failure:3");
    let (events, _) = web.whole("container.run", &asked)?;
    let last = events.last().context("nothing was told")?;
    ensure!(last["kind"] == "started", "{events:?}");
    let format = "{{.Id}} {{.State.Running}} {{.HostConfig.RestartPolicy.Name}} {{(index .Mounts 0).Destination}}";
    let told = machine.docker(["inspect", "--format", format, &name]).output_text()?;
    ensure!(told == format!("{} true on-failure /kept", last["id"].as_str().unwrap_or_default()), "{told}");
    let log = json!({"id": name, "follow": false, "tail": 10, "since": null});
    let lines = eventually_ok("its line is in the log", || {
        let (events, _) = web.whole("container.logs", &log)?;
        ensure!(events.iter().any(|event| event.to_string().contains("a  b")), "{events:?}");
        Ok(events)
    })?;
    ensure!(lines[0]["skipped"] == 0, "{lines:?}");
    let taken = web.open("container.run", &form(&name, &["true"]))?.failure()?;
    ensure!(taken["code"] == "conflict", "{taken}");
    let mut missing = form(&unique("api"), &[]);
    missing["image"] = json!("localhost:1/nothing");
    web.open("container.run", &missing)?.failure()?;
    machine.run(&format!("rm -f {name}"))?;
    machine.run(&format!("volume rm {name}"))?;
    Ok(())
}

fn usage_of_containers_and_machine_is_reported_every_second(machine: &Machine) -> Result<()> {
    let web = Web::start(machine)?;
    let busy = unique("api");
    let id = machine.docker(["run", "-d", "--name", &busy, IMAGE, "sh", "-c", "while :; do :; done"]).output_text()?;
    let mut samples = web.open("containers.samples", &json!({"ids": null}))?;
    samples.until("a busy container", |event| {
        let all = event["samples"].as_array();
        let own = all.into_iter().flatten().find(|sample| sample["id"] == id.as_str());
        own.is_some_and(|sample| {
            sample["cpuPercent"].as_f64().is_some_and(|percent| percent > 20.0) && sample["memory"].as_u64() > Some(0)
        })
    })?;
    let mut machine_samples = web.open("machine.samples", &json!({"machine": ""}))?;
    let sample = machine_samples.until("a busy machine", |event| event["cpuPercent"].as_f64() > Some(20.0))?;
    for field in ["memoryUsed", "memoryTotal", "memoryResident", "diskUsed", "diskAllocated", "diskTotal"] {
        ensure!(sample[field].as_u64() > Some(0), "{field}: {sample}");
    }
    ensure!(sample["memoryUsed"].as_u64() < sample["memoryTotal"].as_u64(), "{sample}");
    machine.run(&format!("rm -f {busy}"))?;
    Ok(())
}

fn an_image_goes_out_as_a_tar_and_comes_back(machine: &Machine) -> Result<()> {
    let web = Web::start(machine)?;
    let tag = format!("{}:one", unique("api"));
    web.call("image.tag", &json!({"image": IMAGE, "reference": tag}))?;
    let id = machine.docker(["inspect", "--format", "{{.Id}}", &tag]).output_text()?;
    let detail = web.call("image.inspect", &json!({"image": tag}))?;
    ensure!(detail["image"]["id"] == id.as_str() && !detail["layers"].as_array().is_none_or(Vec::is_empty), "{detail}");
    let (events, tar) = web.whole("image.save", &json!({"images": [tag]}))?;
    ensure!(events[0]["name"].as_str().is_some_and(|name| name.contains("one") && name.contains(".tar")), "{events:?}");
    web.call("image.remove", &json!({"image": tag, "force": false}))?;
    machine.attempt(&format!("inspect {tag}"))?.exits(1)?;
    let mut load = web.open("image.load", &json!({}))?;
    for piece in tar.chunks(64 << 10) {
        load.bytes(piece)?;
    }
    load.input(&json!({"kind": "finish"}))?;
    let (events, _) = load.rest()?;
    ensure!(events[0].to_string().contains(&tag), "{events:?}");
    ensure!(machine.docker(["inspect", "--format", "{{.Id}}", &tag]).output_text()? == id);
    let mut garbage = web.open("image.load", &json!({}))?;
    garbage.bytes(b"this is no tar")?;
    garbage.input(&json!({"kind": "finish"}))?;
    garbage.failure()?;
    machine.run(&format!("rmi {tag}"))?;
    Ok(())
}

fn an_image_is_pushed_and_pulled_by_layer(machine: &Machine) -> Result<()> {
    let web = Web::start(machine)?;
    machine.load_registry_image()?;
    let registry = Container::named(machine);
    let create = ["create", "--name", &registry.name, "-p", "5000:5000", REGISTRY_IMAGE, "serve", "/etc/registry.yml"];
    machine.docker(create).run()?.success()?;
    let configuration = tempfile::NamedTempFile::new()?;
    let text = "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: /tmp/registry\nhttp:\n  addr: :5000\n";
    fs::write(configuration.path(), text)?;
    let target = format!("{}:/etc/registry.yml", registry.name);
    machine.docker(["cp", &configuration.path().display().to_string(), &target]).run()?.success()?;
    web.call("container.start", &json!({"id": registry.name}))?;

    let name = format!("localhost:5000/{}", unique("api"));
    machine.run(&format!("tag {IMAGE} {name}"))?;
    let id = machine.docker(["inspect", "--format", "{{.Id}}", &name]).output_text()?;
    let complete = |events: &[Value]| {
        let last = events.iter().rev().find(|event| !event["layers"].as_array().is_none_or(Vec::is_empty))?;
        Some(last["layers"].as_array()?.iter().all(|layer| layer["complete"] == true))
    };
    let pushed = eventually_ok("the registry takes the image", || web.whole("image.push", &json!({"image": name})))?;
    ensure!(complete(&pushed.0) == Some(true), "{:?}", pushed.0.last());
    let found = web.call("images.search", &json!({"term": name}))?;
    ensure!(found[0]["reference"] == name.as_str(), "{found}");
    machine.run(&format!("rmi -f {id}"))?;
    let (pulled, _) = web.whole("image.pull", &json!({"reference": name, "platform": null}))?;
    ensure!(complete(&pulled) == Some(true), "{:?}", pulled.last());
    ensure!(machine.docker(["inspect", "--format", "{{.Id}}", &name]).output_text()? == id);
    machine.run(&format!("tag {name} {IMAGE}"))?;
    let nothing = json!({"reference": "localhost:5000/nothing-there", "platform": null});
    web.open("image.pull", &nothing)?.failure()?;
    Ok(())
}

fn a_login_is_shared_with_docker(machine: &Machine) -> Result<()> {
    let web = Web::start(machine)?;
    let file = machine.docker_config().join("config.json");
    fs::write(&file, r#"{"auths":{"registry.test:5000":{"auth":"bWU6cGFzcw=="}},"other":1}"#)?;
    let listed = web.call("registries.list", &json!({}))?;
    ensure!(listed == json!([{"host": "registry.test:5000", "user": "me", "store": "config.json"}]), "{listed}");
    // Nobody listens there: the client's error is passed on, and no login is stored.
    let refused = web.refusal("registry.login", &json!({"host": "localhost:1", "user": "me", "password": "pass"}))?;
    ensure!(refused == "registry-failed", "{refused}");
    web.call("registry.logout", &json!({"host": "registry.test:5000"}))?;
    let kept: Value = serde_json::from_slice(&fs::read(&file)?)?;
    ensure!(kept["auths"].as_object().is_none_or(serde_json::Map::is_empty), "{kept}");
    fs::remove_file(&file)?;
    Ok(())
}

fn a_shell_in_the_machine_works(machine: &Machine) -> Result<()> {
    let web = Web::start(machine)?;
    let mut shell = web.open("machine.shell", &json!({"machine": "", "size": {"columns": 90, "rows": 20}}))?;
    shell.event()?;
    shell.bytes(b"echo \"$((40 + 2)):$(cat /proc/1/comm)\"; exit 4\n")?;
    let mut screen = String::new();
    let status = loop {
        match shell.given()? {
            Given::Bytes(bytes) => screen.push_str(&String::from_utf8_lossy(&bytes)),
            Given::Event(event) => break event["status"].clone(),
            other => anyhow::bail!("{other:?} after {screen}"),
        }
    };
    ensure!(status == 4 && screen.contains("42:"), "{status}: {screen}");
    Ok(())
}
