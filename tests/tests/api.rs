//! The window's API, as `rorqual web` serves it. The docker client verifies every answer and effect.

use std::{
    fs,
    io::{Cursor, Read},
    process::ExitCode,
};

use anyhow::{Context, Result, bail, ensure};
use rorqual_tests::{
    IMAGE, Machine, Run, Web,
    docker::unique,
    eventually_ok, suite, tests,
    web::{Given, request},
};
use serde_json::{Value, json};

fn main() -> ExitCode {
    suite::main(
        1,
        Machine::start,
        tests![
            nothing_is_served_to_strangers,
            lists_report_changes,
            a_container_is_described,
            a_fast_log_neither_grows_memory_nor_loses_lines_unsaid,
            a_terminal_works_both_ways,
            a_page_that_types_without_reading_stops_nothing,
            files_of_a_running_container_are_read_and_changed,
            files_of_a_stopped_container_and_of_a_volume_too,
            no_link_leads_out_of_a_container,
            settings_are_changed_in_their_file,
            a_changed_setting_waits_for_the_restart_that_applies_it,
            builds_report_their_steps_and_the_failing_line,
            the_bundle_holds_no_secret,
            streams_outlive_the_daemon,
            data_is_deleted_only_with_the_word,
        ],
    )
}

/// A container that runs until it is stopped.
fn idle(machine: &Machine) -> Result<String> {
    let name = unique("api");
    machine.run(&format!("run -d --name {name} {IMAGE} sleep 100000"))?;
    Ok(name)
}

fn nothing_is_served_to_strangers(machine: &Machine) -> Result<()> {
    let web = &Web::start(machine)?;
    let (host, origin) = (web.host(), format!("http://{}", web.host()));
    let cookie = web.cookie.as_str();
    let token = web.url.split_once("/open").context("another address")?.1.to_owned();
    let other_host = format!("evil.test:{}", web.port);
    let other_origin = format!("http://{other_host}");
    let call = "/api/call/app.information";
    let all = [("Host", host.as_str()), ("Origin", origin.as_str()), ("Cookie", cookie)];
    let information = request(web.port, "POST", call, &all, b"{}")?;
    ensure!(information.status == 200, "{information:?}");
    for (what, method, path, headers, status) in [
        ("no cookie", "POST", call, vec![all[0], all[1]], 401),
        ("no cookie, the pages", "GET", "/index.html", vec![all[0]], 401),
        ("another cookie", "POST", call, vec![all[0], all[1], ("Cookie", "rorqual=1")], 401),
        ("no origin", "POST", call, vec![all[0], all[2]], 403),
        ("another origin", "POST", call, vec![all[0], ("Origin", &other_origin), all[2]], 403),
        ("another origin, streams", "GET", "/api/streams", vec![all[0], ("Origin", &other_origin), all[2]], 403),
        ("another host", "POST", call, vec![("Host", &other_host), ("Origin", &other_origin), all[2]], 421),
        ("another site's page", "GET", "/", vec![all[0], all[2], ("Sec-Fetch-Site", "cross-site")], 403),
        ("the token again", "GET", &format!("/open{token}"), vec![all[0]], 401),
        ("a file elsewhere", "GET", "/../../etc/passwd", vec![all[0], all[2]], 404),
    ] {
        let answer = request(web.port, method, path, &headers, b"{}")?;
        ensure!(answer.status == status, "{what}: {answer:?}");
        ensure!(!answer.headers.contains_key("set-cookie"), "{what}: {answer:?}");
        ensure!(answer.headers["content-security-policy"].contains("default-src 'none'"), "{what}: {answer:?}");
        ensure!(answer.headers["x-frame-options"] == "DENY" && answer.headers["referrer-policy"] == "no-referrer");
        ensure!(answer.headers["x-content-type-options"] == "nosniff", "{what}: {answer:?}");
    }
    ensure!(request(web.port, "GET", "/", &[all[0], all[2]], b"")?.status == 200);
    ensure!(web.refusal("no.such.call", &json!({}))? == "bad-request");
    ensure!(web.refusal("container.inspect", &json!({"id": "nobody"}))? == "not-found");
    Ok(())
}

fn lists_report_changes(machine: &Machine) -> Result<()> {
    let web = &Web::start(machine)?;
    let mut containers = web.open("containers", &json!({}))?;
    let mut volumes = web.open("volumes", &json!({}))?;
    ensure!(containers.event()?["kind"] == "all" && volumes.event()?["kind"] == "all");
    let name = idle(machine)?;
    let changed = |event: &Value, state: &str| {
        let items = event["changed"].as_array().or(event["items"].as_array());
        items.into_iter().flatten().find(|item| item["name"] == name.as_str() && item["state"] == state).cloned()
    };
    let event = containers.until("the running container", |event| changed(event, "running").is_some())?;
    let id = changed(&event, "running").context("gone")?["id"].clone();
    ensure!(machine.run(&format!("inspect --format {{{{.Id}}}} {name}"))? == id.as_str().unwrap_or_default());
    web.call("container.kill", &json!({"id": name}))?;
    containers.until("the stopped container", |event| changed(event, "exited").is_some())?;
    machine.run(&format!("rm -f {name}"))?;
    containers.until("the removed container", |event| {
        event["removed"].as_array().is_some_and(|removed| removed.contains(&id))
    })?;
    let volume = unique("api");
    web.call("volume.create", &json!({"name": volume, "labels": []}))?;
    volumes.until("the new volume", |event| event.to_string().contains(&volume))?;
    machine.run(&format!("volume rm {volume}"))?;
    volumes.until("the removed volume", |event| event["removed"].to_string().contains(&volume))?;
    Ok(())
}

fn a_container_is_described(machine: &Machine) -> Result<()> {
    let web = &Web::start(machine)?;
    let name = idle(machine)?;
    let detail = web.call("container.inspect", &json!({"id": name}))?;
    let command = detail["runCommand"].as_str().context("no command line")?;
    ensure!(
        command.starts_with("docker run") && command.contains(&name) && command.ends_with("sleep 100000"),
        "{command}"
    );
    let processes = web.call("container.processes", &json!({"id": name}))?;
    ensure!(processes.to_string().contains("sleep 100000"), "{processes}");
    machine.run(&format!("rm -f {name}"))?;
    Ok(())
}

fn resident(process: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? << 10)
}

fn a_fast_log_neither_grows_memory_nor_loses_lines_unsaid(machine: &Machine) -> Result<()> {
    const LINES: u64 = 50_000;
    let web = &Web::start(machine)?;
    let name = unique("api");
    let script = format!("while [ ! -e /tmp/go ]; do sleep 0.1; done; seq 1 {LINES}; sleep 100000");
    machine.docker(["run", "-d", "--name", &name, IMAGE, "sh", "-c", &script]).run()?.success()?;
    let before = resident(web.process())?;
    let mut log = web.open("container.logs", &json!({"id": name, "follow": true, "tail": 0, "since": null}))?;
    machine.run(&format!("exec {name} touch /tmp/go"))?;
    let (mut lines, mut skipped) = (0, 0);
    // A page that does not read: it grants no credit until everything has been written.
    eventually_ok("all is written", || {
        let tail = machine.run(&format!("logs --tail 1 {name}"))?;
        ensure!(tail == LINES.to_string(), "{tail}");
        Ok(())
    })?;
    let grown = resident(web.process())?.saturating_sub(before);
    ensure!(grown < 48 << 20, "the server grew by {grown} bytes");
    log.grant(10_000)?;
    while lines + skipped < LINES {
        match log.given()? {
            Given::Event(event) => {
                lines += event["lines"].as_array().map_or(0, |lines| lines.len() as u64);
                skipped += event["skipped"].as_u64().unwrap_or(0);
            }
            other => bail!("{other:?} after {lines} lines and {skipped} skipped"),
        }
    }
    ensure!(lines + skipped == LINES, "{lines} lines and {skipped} skipped");
    eprintln!("{lines} lines came, {skipped} were skipped, {grown} bytes grown");
    log.close()?;
    machine.run(&format!("rm -f {name}"))?;
    Ok(())
}

fn a_terminal_works_both_ways(machine: &Machine) -> Result<()> {
    let web = &Web::start(machine)?;
    let name = idle(machine)?;
    let params = json!({"id": name, "command": null, "user": null, "size": {"columns": 80, "rows": 24}});
    let mut terminal = web.open("container.terminal", &params)?;
    ensure!(terminal.event()?["kind"] == "started");
    terminal.input(&json!({"kind": "resize", "size": {"columns": 101, "rows": 33}}))?;
    terminal.bytes(b"stty size; echo a$((40 + 2))b; exit 3\n")?;
    let mut screen = String::new();
    let status = loop {
        match terminal.given()? {
            Given::Bytes(bytes) => screen.push_str(&String::from_utf8_lossy(&bytes)),
            Given::Event(event) => break event["status"].clone(),
            other => bail!("{other:?} after {screen}"),
        }
    };
    ensure!(status == 3 && screen.contains("a42b") && screen.contains("33 101"), "{status}: {screen}");
    machine.run(&format!("rm -f {name}"))?;
    Ok(())
}

fn a_page_that_types_without_reading_stops_nothing(machine: &Machine) -> Result<()> {
    let web = &Web::start(machine)?;
    let name = idle(machine)?;
    let command = ["sh", "-c", "stty -echo; echo ready; read go; seq 1 300000; cat > /dev/null & sleep 100000"];
    let params = json!({"id": name, "command": command, "user": null, "size": {"columns": 80, "rows": 24}});
    let mut terminal = web.open("container.terminal", &params)?;
    let mut screen = Vec::new();
    while !String::from_utf8_lossy(&screen).contains("ready") {
        if let Given::Bytes(bytes) = terminal.given()? {
            screen.extend(bytes);
        }
    }
    terminal.bytes(b"go\n")?;
    // All credit is used up, yet the page keeps sending input.
    for _ in 0..63 {
        terminal.given_without_credit()?;
    }
    for _ in 0..20_000 {
        terminal.bytes(b"x\n")?;
    }
    // Messages sent after the input still arrive.
    terminal.grant(60_000)?;
    while !String::from_utf8_lossy(&screen[screen.len().saturating_sub(8000)..]).contains("300000") {
        match terminal.given_without_credit()? {
            Given::Bytes(bytes) => screen.extend(bytes),
            other => bail!("{other:?}"),
        }
    }
    terminal.close()?;
    machine.run(&format!("rm -f {name}"))?;
    Ok(())
}

fn target(place: &Value, path: &str) -> Value {
    json!({"place": place, "path": path})
}

fn names(list: &Value) -> Vec<&str> {
    list["entries"].as_array().into_iter().flatten().filter_map(|entry| entry["name"].as_str()).collect()
}

fn upload(web: &Web, place: &Value, path: &str, content: &[u8]) -> Result<()> {
    let params = json!({"target": target(place, path), "size": content.len(), "mode": null});
    let mut stream = web.open("files.write", &params)?;
    for piece in content.chunks(64 << 10) {
        stream.bytes(piece)?;
    }
    stream.input(&json!({"kind": "finish"}))?;
    stream.rest().map(drop)
}

/// Every operation on files, in a directory of a place.
fn use_files(web: &Web, place: &Value, directory: &str) -> Result<()> {
    let path = |name: &str| format!("{directory}/{name}");
    web.call("files.createFolder", &target(place, &path("made")))?;
    ensure!(web.refusal("files.createFolder", &target(place, &path("made")))? == "conflict");
    let content: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    upload(web, place, &path("made/it's a file"), &content)?;
    let list = web.call("files.list", &target(place, &path("made")))?;
    let entry = &list["entries"][0];
    ensure!(entry["name"] == "it's a file" && entry["size"] == content.len() && entry["kind"] == "file", "{list}");
    ensure!(entry["mode"] == 0o644 && list["truncated"] == false, "{list}");
    let (events, read) = web.whole("files.read", &target(place, &path("made/it's a file")))?;
    ensure!(events[0]["name"] == "it's a file" && events[0]["size"] == content.len(), "{events:?}");
    ensure!(read == content, "{} bytes came back of {}", read.len(), content.len());
    upload(web, place, &path("made/it's a file"), b"shorter")?;
    ensure!(web.whole("files.read", &target(place, &path("made/it's a file")))?.1 == b"shorter");
    upload(web, place, &path("made/empty"), b"")?;
    ensure!(web.whole("files.read", &target(place, &path("made/empty")))?.1.is_empty());
    // An aborted upload leaves the old file unchanged.
    let broken = json!({"target": target(place, &path("made/empty")), "size": 10, "mode": null});
    let mut stream = web.open("files.write", &broken)?;
    stream.bytes(b"half")?;
    stream.input(&json!({"kind": "finish"}))?;
    ensure!(stream.failure()?["code"] == "cut-short");
    let list = web.call("files.list", &target(place, &path("made")))?;
    ensure!(names(&list) == ["empty", "it's a file"], "{list}");
    let moved = json!({"target": target(place, &path("made/empty")), "path": path("moved")});
    web.call("files.move", &moved)?;
    ensure!(web.refusal("files.move", &moved)? == "not-found");
    ensure!(names(&web.call("files.list", &target(place, &format!("{directory}/")))?).contains(&"moved"));
    let (events, tar) = web.whole("files.read", &target(place, &path("made")))?;
    ensure!(events[0]["name"] == "made.tar", "{events:?}");
    ensure!(tar.windows(11).any(|window| window == b"it's a file"), "the tar has not the file");
    web.call("files.remove", &target(place, &path("made")))?;
    web.call("files.remove", &target(place, &path("moved")))?;
    ensure!(web.refusal("files.list", &target(place, &path("made")))? == "not-found");
    ensure!(web.refusal("files.remove", &target(place, "/"))? == "bad-request");
    ensure!(web.refusal("files.list", &target(place, "/a/../b"))? == "bad-request");
    Ok(())
}

fn files_of_a_running_container_are_read_and_changed(machine: &Machine) -> Result<()> {
    let web = &Web::start(machine)?;
    let name = unique("api");
    machine.run(&format!("run -d --name {name} -v {name}:/volume {IMAGE} sleep 100000"))?;
    let place = json!({"kind": "container", "id": name});
    let script = "mkdir /data/deep; ln -s /data/deep /tmp/link; echo x > /data/deep/file; \
                  chmod 600 /data/deep/file; mkfifo /tmp/pipe";
    machine.docker(["exec", &name, "sh", "-c", script]).run()?.success()?;
    let top = web.call("files.list", &target(&place, "/"))?;
    ensure!(names(&top).contains(&"bin") && names(&top).contains(&"volume"), "{top}");
    // Through a link, like docker.
    ensure!(names(&web.call("files.list", &target(&place, "/tmp/link"))?) == ["file"]);
    let linked = web.call("files.list", &target(&place, "/tmp"))?;
    let link = linked["entries"].as_array().into_iter().flatten().find(|entry| entry["name"] == "link").cloned();
    ensure!(link.is_some_and(|link| link["kind"] == "link" && link["link"] == "/data/deep"), "{linked}");
    upload(web, &place, "/tmp/link/file", b"changed")?;
    ensure!(machine.run(&format!("exec {name} cat /data/deep/file"))? == "changed");
    ensure!(machine.run(&format!("exec {name} stat -c %a /data/deep/file"))? == "600");
    ensure!(web.open("files.read", &target(&place, "/tmp/pipe"))?.failure()?["code"] == "not-a-file");
    ensure!(web.refusal("files.list", &target(&place, "/data/deep/file"))? == "not-a-directory");
    use_files(web, &place, "/tmp")?;
    // A volume is at its place in the container.
    use_files(web, &place, "/volume")?;
    machine.run(&format!("rm -f {name}"))?;
    machine.run(&format!("volume rm {name}"))?;
    Ok(())
}

fn files_of_a_stopped_container_and_of_a_volume_too(machine: &Machine) -> Result<()> {
    let web = &Web::start(machine)?;
    let name = unique("api");
    machine
        .docker(["run", "--name", &name, IMAGE, "sh", "-c", "rm /etc/group; echo kept > /data/kept"])
        .run()?
        .success()?;
    let place = json!({"kind": "container", "id": name});
    let list = web.call("files.list", &target(&place, "/etc"))?;
    ensure!(names(&list).contains(&"passwd") && !names(&list).contains(&"group"), "{list}");
    use_files(web, &place, "/data")?;
    upload(web, &place, "/data/sent", b"sent")?;
    web.call("files.remove", &target(&place, "/data/kept"))?;
    // After a start, the changes are there and the removed files are gone.
    let copied = machine.docker(["cp", &format!("{name}:/data"), "-"]).run()?.success()?;
    let copied = String::from_utf8_lossy(&copied.stdout).into_owned();
    ensure!(copied.contains("data/sent") && !copied.contains("data/kept"), "{copied}");
    machine.run(&format!("rm {name}"))?;
    let volume = unique("api");
    machine.run(&format!("volume create {volume}"))?;
    let place = json!({"kind": "volume", "name": volume});
    use_files(web, &place, "")?;
    upload(web, &place, "/sent", b"sent")?;
    ensure!(machine.run(&format!("run --rm -v {volume}:/volume {IMAGE} cat /volume/sent"))? == "sent");
    machine.run(&format!("volume rm {volume}"))?;
    Ok(())
}

fn no_link_leads_out_of_a_container(machine: &Machine) -> Result<()> {
    let web = &Web::start(machine)?;
    let name = idle(machine)?;
    let place = json!({"kind": "container", "id": name});
    let script = "ln -s ../../../../../../etc /tmp/up; ln -s /proc/1/root/etc /tmp/proc; ln -s /etc/passwd /tmp/file; \
                  ln -s loop /tmp/loop; rm /etc/group";
    machine.docker(["exec", &name, "sh", "-c", script]).run()?.success()?;
    let own = machine.run(&format!("exec {name} cat /etc/passwd"))?;
    for path in ["/tmp/up", "/tmp/proc"] {
        let list = web.call("files.list", &target(&place, path))?;
        // The machine's /etc has much more.
        ensure!(!names(&list).contains(&"group") && names(&list).contains(&"passwd"), "{path}: {list}");
    }
    let (_, read) = web.whole("files.read", &target(&place, "/tmp/up/passwd"))?;
    ensure!(String::from_utf8_lossy(&read).trim() == own);
    ensure!(web.refusal("files.list", &target(&place, "/tmp/loop"))? == "not-found");
    // Removes the link, not its target.
    web.call("files.remove", &target(&place, "/tmp/file"))?;
    web.call("files.remove", &target(&place, "/tmp/up"))?;
    ensure!(machine.run(&format!("exec {name} cat /etc/passwd"))? == own);
    machine.run(&format!("rm -f {name}"))?;
    Ok(())
}

fn settings_are_changed_in_their_file(machine: &Machine) -> Result<()> {
    let web = &Web::start(machine)?;
    let file = machine.directory().join("machine.toml");
    let before = fs::read_to_string(&file)?;
    let change = |value: Value| json!({"file": "machine/default", "key": "memory_mib", "value": value});
    let changed = web.call("settings.change", &change(json!(1111)))?;
    ensure!(changed["waits"] == true && changed["takesEffectNote"].to_string().contains("restarts"), "{changed}");
    let now = fs::read_to_string(&file)?;
    ensure!(now.contains("memory_mib = 1111") && now.lines().count() == before.lines().count(), "{now}");
    ensure!(web.refusal("settings.change", &change(json!(5)))? == "config-invalid");
    let settings = web.call("settings.get", &json!({}))?;
    let memory = settings["settings"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|one| one["key"] == "memory_mib" && one["file"] == "machine/default");
    ensure!(memory.is_some_and(|memory| memory["value"] == 1111), "{settings}");
    fs::write(&file, before)?;
    Ok(())
}

fn a_changed_setting_waits_for_the_restart_that_applies_it(machine: &Machine) -> Result<()> {
    let web = &Web::start(machine)?;
    let change = |key: &str, value: Value| {
        web.call("settings.change", &json!({"file": "config", "key": key, "value": value}))
            .map(|one| one["waits"] == true)
    };
    let waits = |key: &str| -> Result<bool> {
        let settings = web.call("settings.get", &json!({}))?;
        let settings = settings["settings"].as_array().cloned().unwrap_or_default();
        let setting = settings.iter().find(|one| one["file"] == "config" && one["key"] == key);
        Ok(setting.with_context(|| format!("no setting {key}"))?["waits"] == true)
    };
    ensure!(change("daemon.log", json!("debug"))? && change("network.block_link_local", json!(false))?);
    ensure!(!change("machine.cpus", json!(3))?, "no restart applies what new machines get");
    machine.rorqual(["quit", "-q"]).run()?.success()?;
    web.whole("machine.start", &json!({"machine": "", "cold": false}))?;
    // The next daemon has applied its own setting; the machine ran on.
    ensure!(!waits("daemon.log")? && waits("network.block_link_local")?);
    // Undone, nothing waits for the machine, and the daemon runs with the value that was undone.
    ensure!(!change("network.block_link_local", Value::Null)? && change("daemon.log", Value::Null)?);
    change("machine.cpus", Value::Null)?;
    Ok(())
}

fn builds_report_their_steps_and_the_failing_line(machine: &Machine) -> Result<()> {
    let web = &Web::start(machine)?;
    let folder = tempfile::tempdir()?;
    let dockerfile = format!(
        "FROM {IMAGE}\nRUN echo first-step > /data/one\nRUN echo out-$((40 + 2))\nCMD [\"cat\", \"/data/one\"]\n"
    );
    fs::write(folder.path().join("Dockerfile"), &dockerfile)?;
    let tag = unique("api-build");
    let params = json!({
        "folder": folder.path(), "dockerfile": null, "tags": [tag], "target": null, "arguments": [],
        "noCache": false, "pull": false,
    });
    let outcome = |events: &[Value]| {
        let last = events.last().filter(|event| event["kind"] == "finished").cloned();
        last.map(|event| event["record"].clone()).context("the build did not finish")
    };
    let (events, _) = web.whole("build.run", &params)?;
    let record = outcome(&events)?;
    ensure!(record["outcome"]["kind"] == "succeeded", "{record}");
    ensure!(
        machine.run(&format!("inspect --format {{{{.Id}}}} {tag}"))?
            == record["outcome"]["image"].as_str().unwrap_or_default()
    );
    ensure!(machine.run(&format!("run --rm {tag}"))? == "first-step");
    let output: String =
        events.iter().filter(|event| event["kind"] == "output").filter_map(|event| event["text"].as_str()).collect();
    ensure!(output.contains("out-42"), "{output}");
    let steps = |record: &Value, state: &str| {
        record["steps"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|step| step["state"] == state && step["name"].to_string().contains("RUN"))
            .count()
    };
    ensure!(steps(&record, "done") == 2, "{record}");
    let again = outcome(&web.whole("build.run", &params)?.0)?;
    ensure!(steps(&again, "cached") == 2, "{again}");
    fs::write(
        folder.path().join("Dockerfile"),
        dockerfile.replace("RUN echo out-$((40 + 2))", "RUN echo why-not >&2; exit 7"),
    )?;
    let failed = outcome(&web.whole("build.run", &params)?.0)?;
    ensure!(failed["outcome"]["kind"] == "failed" && failed["outcome"]["line"] == 3, "{failed}");
    ensure!(failed["outcome"]["message"].to_string().contains("exit code: 7"), "{failed}");
    ensure!(failed["outcome"]["dockerfile"].to_string().contains("why-not"), "{failed}");
    // Closing the stream cancels the build.
    fs::write(folder.path().join("Dockerfile"), format!("FROM {IMAGE}\nRUN echo begun; sleep 1000\n"))?;
    let mut slow = web.open("build.run", &params)?;
    slow.until("the slow step", |event| event["text"].to_string().contains("begun"))?;
    slow.close()?;
    eventually_ok("the cancelled build is in the history", || {
        let history = web.call("builds.history", &json!({}))?;
        ensure!(history[0]["outcome"]["kind"] == "canceled", "{}", history[0]);
        Ok(())
    })?;
    let history = web.call("builds.history", &json!({}))?;
    ensure!(history.as_array().is_some_and(|builds| builds.len() == 4), "{history}");
    let detail = web.call("builds.inspect", &json!({"id": failed["id"]}))?;
    ensure!(
        detail["outputs"].to_string().contains("why-not") && detail["dockerfile"].to_string().contains("exit 7"),
        "{detail}"
    );
    web.call("builds.remove", &json!({"id": failed["id"]}))?;
    ensure!(web.refusal("builds.inspect", &json!({"id": failed["id"]}))? == "not-found");
    ensure!(web.call("builds.pruneCache", &json!({}))?["reclaimed"].is_u64());
    machine.run(&format!("rmi {tag}"))?;
    Ok(())
}

fn the_bundle_holds_no_secret(machine: &Machine) -> Result<()> {
    let web = &Web::start(machine)?;
    let name = unique("api");
    let (secret, login) = ("planted-secret-5813", "bWU6cGxhbnRlZC1sb2dpbi05MQ==");
    fs::write(
        machine.docker_config().join("config.json"),
        format!(r#"{{"auths":{{"registry.test":{{"auth":"{login}"}}}}}}"#),
    )?;
    let variable = format!("DB_PASSWORD={secret}");
    machine
        .docker([
            "run",
            "-d",
            "--name",
            &name,
            "-e",
            &variable,
            IMAGE,
            "sh",
            "-c",
            &format!("echo {secret}; sleep 100000"),
        ])
        .run()?
        .success()?;
    let (events, content) = web.whole("diagnose.bundle", &json!({}))?;
    ensure!(events[0]["name"].to_string().ends_with(".zip\"") && events[0]["size"] == content.len(), "{events:?}");
    let mut archive = zip::ZipArchive::new(Cursor::new(content))?;
    let files: Vec<String> = archive.file_names().map(|name| Ok(name?.into_owned())).collect::<Result<_>>()?;
    for expected in [
        "README.txt",
        "checks.txt",
        "versions.txt",
        "config.toml",
        "logs/daemon.log",
        "machines/default/machine.toml",
        "machines/default/console.log",
        "machines/default/dockerd.log",
        "docker/info.json",
        "docker/inspected.json",
    ] {
        ensure!(files.iter().any(|file| file == expected), "{expected} is not in {files:?}");
    }
    let mut all = String::new();
    for file in &files {
        archive.by_name(file)?.read_to_string(&mut all)?;
    }
    ensure!(all.contains(&name) && all.contains("DB_PASSWORD=(removed)"), "the container is not in it");
    for planted in [secret, login, "planted-login-91"] {
        ensure!(!all.contains(planted), "{planted} is in the bundle");
    }
    machine.run(&format!("rm -f {name}"))?;
    let checks = web.call("diagnose.checks", &json!({}))?;
    ensure!(
        checks
            .as_array()
            .is_some_and(|checks| checks.iter().any(|check| check["id"] == "sockets" && check["verdict"] == "ok")),
        "{checks}"
    );
    Ok(())
}

fn streams_outlive_the_daemon(machine: &Machine) -> Result<()> {
    let web = &Web::start(machine)?;
    let name = idle(machine)?;
    let mut machines = web.open("machines", &json!({}))?;
    let runs = |event: &Value| event["kind"] == "machines" && event["machines"][0]["state"] == "running";
    machines.until("the running machine", runs)?;
    machine.rorqual(["quit", "-q"]).run()?.success()?;
    machines.until("the missing daemon", |event| event["kind"] == "unreachable")?;
    ensure!(web.refusal("container.inspect", &json!({"id": name}))? == "engine-not-running");
    let (steps, _) = web.whole("machine.start", &json!({"machine": "", "cold": false}))?;
    drop(steps);
    machines.until("the machine again", runs)?;
    // The stream continued meanwhile.
    ensure!(web.call("container.inspect", &json!({"id": name}))?.to_string().contains("running"));
    machine.run(&format!("rm -f {name}"))?;
    Ok(())
}

fn data_is_deleted_only_with_the_word(machine: &Machine) -> Result<()> {
    let web = &Web::start(machine)?;
    let (name, volume) = (unique("api"), unique("api"));
    machine.run(&format!("run --name {name} -v {volume}:/volume {IMAGE} true"))?;
    let plan_of = |plans: &Value, level: &str| {
        let plan = plans.as_array().into_iter().flatten().find(|plan| plan["level"] == level);
        plan.map(|plan| plan["deletes"].to_string()).unwrap_or_default()
    };
    // The engine counts from a slightly older copy of its state.
    let plans = eventually_ok("the stopped container is counted", || {
        let plans = web.call("diagnose.resetPlans", &json!({}))?;
        ensure!(plan_of(&plans, "prune").contains("stopped container"), "{plans}");
        Ok(plans)
    })?;
    let plan = |level: &str| plan_of(&plans, level);
    ensure!(plan("restart") == "[]", "{plans}");
    let volumes = machine.run("volume ls -q")?.lines().count();
    ensure!(
        plan("data").contains(&format!("{volumes} volume")) && plan("data").contains("disk of machine default"),
        "{plans}"
    );
    ensure!(plan("factory").contains("config.toml"), "{plans}");
    for word in ["", "yes", "Delete"] {
        let refused = web.open("diagnose.reset", &json!({"level": "data", "confirmation": word}))?.failure()?;
        ensure!(refused["code"] == "not-confirmed", "{refused}");
    }
    machine.run(&format!("inspect {name}"))?;
    let (steps, _) = web.whole("diagnose.reset", &json!({"level": "prune", "confirmation": ""}))?;
    ensure!(steps.iter().any(|step| step["step"] == "containers"), "{steps:?}");
    ensure!(machine.run("ps -aq")?.is_empty());
    ensure!(machine.run("volume ls -q")?.lines().any(|line| line == volume), "a volume with a name was pruned");
    web.whole("diagnose.reset", &json!({"level": "data", "confirmation": "delete"}))?;
    ensure!(!machine.run("volume ls -q")?.contains(&volume), "the volume is still there");
    ensure!(machine.directory().join("machine.toml").exists());
    // Last: nothing is left of the machine, and the server keeps running.
    web.whole("diagnose.reset", &json!({"level": "factory", "confirmation": "delete"}))?;
    ensure!(!machine.directory().exists() && !machine.home().join("config.toml").exists());
    ensure!(web.call("app.information", &json!({}))?["firstRun"] == true);
    Ok(())
}
