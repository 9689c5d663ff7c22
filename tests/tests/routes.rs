//! Names for containers: `http(s)://<container>.rorqual.localhost`, what passes through, and the answer when a name
//! cannot be served.

use std::{
    fs,
    fs::File,
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, TcpStream},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    sync::OnceLock,
};

use anyhow::{Context, Result, ensure};
use nix::unistd::geteuid;
use rorqual_tests::{
    Container, Execution, Machine, Run,
    docker::unique,
    host_port,
    stream::{self, Pattern, drain},
    suite, tests,
    web::{self, Answer},
};
use tungstenite::{Message, client};

/// Larger than any buffer.
const LARGE: u64 = 100 << 20;

static PORTS: OnceLock<(u16, u16)> = OnceLock::new();

fn main() -> ExitCode {
    suite::main(
        1,
        start,
        tests![
            a_container_answers_by_its_name_over_both_loopback_addresses,
            the_port_is_the_one_of_the_label,
            a_service_of_compose_has_a_name_of_its_own,
            a_container_receives_the_client_and_the_requested_name,
            a_connection_serves_many_requests,
            large_bodies_arrive_whole_both_ways,
            events_arrive_while_the_response_continues,
            a_web_socket_passes_both_ways,
            a_name_that_cannot_answer_gives_the_reason_and_the_fix,
            the_list_names_every_running_container,
            other_names_and_other_sites_get_nothing,
            https_is_verified_against_the_authority_alone,
            the_authority_signs_for_no_other_name,
            the_system_trusts_the_authority_by_one_command,
            a_container_that_publishes_port_80_gets_it,
        ],
    )
}

/// A machine that serves names only on ports of this suite.
fn start() -> Result<Machine> {
    let machine = Machine::prepare()?;
    let (http, https) = (host_port::free_tcp(1)?, host_port::free_tcp(1)?);
    let routes = format!("[routes]\nhttp_port = {http}\nhttps_port = {https}\n");
    fs::write(machine.home().join("config.toml"), routes)?;
    PORTS.get_or_init(|| (http, https));
    if let Err(error) = machine.rorqual(["start", "-q"]).run().and_then(Execution::success) {
        machine.print_logs();
        return Err(error);
    }
    machine.load_image()?;
    Ok(machine)
}

fn http_port() -> u16 {
    PORTS.get().map_or(0, |ports| ports.0)
}

fn https_port() -> u16 {
    PORTS.get().map_or(0, |ports| ports.1)
}

/// A container whose HTTP server answers.
fn serving<'a>(machine: &'a Machine, options: &str, port: u16) -> Result<Container<'a>> {
    let container = Container::run(machine, &format!("--init {options}"), &["/peer", "http", &port.to_string()])?;
    container.wait_for_log("listening")?;
    Ok(container)
}

fn host(name: &str) -> String {
    format!("{name}.rorqual.localhost:{}", http_port())
}

fn get(host: &str, path: &str, headers: &[(&str, &str)]) -> Result<Answer> {
    let headers: Vec<_> = [("Host", host)].into_iter().chain(headers.iter().copied()).collect();
    web::request(http_port(), "GET", path, &headers, b"")
}

fn text(answer: &Answer) -> String {
    String::from_utf8_lossy(&answer.body).into_owned()
}

/// `curl` for an address of the container `name`, over IPv4 by default; returns standard output.
fn curl(name: &str, scheme: &str, path: &str) -> Command {
    let port = if scheme == "https" { https_port() } else { http_port() };
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--fail", "--max-time", "200", "--noproxy", "*"]);
    command.args(["--connect-to", "::127.0.0.1:", &format!("{scheme}://{name}.rorqual.localhost:{port}{path}")]);
    command
}

/// The authority's certificate, created if absent.
fn authority(machine: &Machine) -> Result<PathBuf> {
    // The first HTTPS connection creates it; the exit status shows that it is not trusted yet.
    curl("nobody", "https", "/").run()?.exits(60)?;
    let path = machine.home().join("https/ca.pem");
    ensure!(path.is_file(), "{} was not made", path.display());
    Ok(path)
}

fn a_container_answers_by_its_name_over_both_loopback_addresses(machine: &Machine) -> Result<()> {
    let web = serving(machine, "", 80)?;
    let answer = get(&host(&web.name.to_uppercase()), "/head", &[])?;
    ensure!(answer.status == 200 && text(&answer).starts_with("GET /head HTTP/1.1\r\n"), "{answer:?}");
    let url = format!("http://{}/bytes/3", host(&web.name));
    for address in ["127.0.0.1", "[::1]"] {
        let mut command = Command::new("curl");
        command.args(["-sS", "--fail", "--noproxy", "*", "--connect-to", &format!("::{address}:"), &url]);
        let got = command.run()?.success()?;
        ensure!(got.stdout.len() == 3, "by {address}: {got}");
    }
    // The status lists the name, which is served on loopback only.
    let routes = machine.status()?["routes"].clone();
    ensure!(routes["problem"] == "", "{routes}");
    let port = http_port();
    let everywhere = Command::new("ss").args(["-Hltn", &format!("sport = :{port}")]).output_text()?;
    let listening: Vec<&str> = everywhere.lines().filter_map(|line| line.split_whitespace().nth(3)).collect();
    ensure!(listening.len() == 2 && listening.contains(&format!("127.0.0.1:{port}").as_str()), "{everywhere}");
    ensure!(listening.contains(&format!("[::1]:{port}").as_str()), "{everywhere}");
    Ok(())
}

fn the_port_is_the_one_of_the_label(machine: &Machine) -> Result<()> {
    let one = serving(machine, "--label dev.rorqual.http-port=3000", 3000)?;
    let network = unique("net");
    machine.run(&format!("network create {network}"))?;
    let result = (|| {
        let other = serving(machine, &format!("--label dev.rorqual.http-port=3001 --network {network}"), 3001)?;
        let shares = Container::create(machine, &format!("--network container:{}", other.name), &["true"])?;
        for name in [&one.name, &other.name] {
            let answer = get(&host(name), "/head", &[])?;
            ensure!(answer.status == 200, "{name}: {answer:?}");
        }
        let stopped = get(&host(&shares.name), "/", &[])?;
        ensure!(stopped.status == 502, "{stopped:?}");
        Ok(())
    })();
    machine.attempt(&format!("network rm -f {network}"))?;
    result
}

fn a_service_of_compose_has_a_name_of_its_own(machine: &Machine) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("compose.yaml");
    fs::write(
        &file,
        r#"services:
  front:
    image: test
    init: true
    command: ["/peer", "http", "80"]
    healthcheck:
      test: ["CMD", "wget", "-q", "-O", "/dev/null", "http://127.0.0.1/head"]
      interval: 1s
      retries: 60
"#,
    )?;
    let compose = |words: &[&str]| {
        let file = file.to_str().context("the path of the project is not text")?;
        machine.docker(["compose", "-p", "shop", "-f", file].into_iter().chain(words.iter().copied())).run()
    };
    compose(&["up", "-d", "--wait"])?.success()?;
    let answers = (|| {
        for name in ["front.shop", "shop-front-1"] {
            let answer = get(&host(name), "/head", &[])?;
            ensure!(answer.status == 200, "{name}: {answer:?}");
        }
        Ok(())
    })();
    compose(&["down", "--timeout", "1"])?.success()?;
    answers?;
    let gone = get(&host("front.shop"), "/head", &[])?;
    ensure!(gone.status == 502 && text(&gone).contains("no container named front.shop"), "{}", text(&gone));
    Ok(())
}

fn a_container_receives_the_client_and_the_requested_name(machine: &Machine) -> Result<()> {
    let web = serving(machine, "", 80)?;
    let spoofed = [("X-Forwarded-For", "10.9.8.7"), ("Connection", "X-Secret"), ("X-Secret", "1"), ("X-Kept", "yes")];
    let head = text(&get(&host(&web.name), "/head", &spoofed)?).to_lowercase();
    for line in [
        format!("host: {}", host(&web.name)),
        "x-forwarded-for: 127.0.0.1".to_owned(),
        "x-forwarded-proto: http".to_owned(),
        "x-kept: yes".to_owned(),
    ] {
        ensure!(head.lines().any(|found| found == line), "no {line:?} in {head}");
    }
    ensure!(!head.contains("10.9.8.7") && !head.contains("x-secret"), "{head}");
    Ok(())
}

fn a_connection_serves_many_requests(machine: &Machine) -> Result<()> {
    let web = serving(machine, "", 80)?;
    let url = format!("http://{}/bytes/2", host(&web.name));
    let mut command = Command::new("curl");
    command.args(["-sS", "--noproxy", "*", "--connect-to", "::127.0.0.1:", "-w", "%{num_connects} ", &url, &url, &url]);
    let got = command.args(["-o", "/dev/null", "-o", "/dev/null", "-o", "/dev/null"]).output_text()?;
    ensure!(got == "1 0 0", "new connections for each request: {got}");
    Ok(())
}

fn large_bodies_arrive_whole_both_ways(machine: &Machine) -> Result<()> {
    let web = serving(machine, "", 80)?;
    let authority = authority(machine)?;
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("body");
    let mut pattern = Pattern::default();
    let mut body = vec![0; usize::try_from(LARGE)?];
    pattern.fill(&mut body);
    fs::write(&path, &body)?;
    let expected = format!("{LARGE} {}", stream::checksum(&body));
    drop(body);
    let file = path.to_str().context("a path that is not text")?;
    for scheme in ["http", "https"] {
        // With a length, and chunked.
        for how in [
            vec!["--data-binary", &format!("@{file}")],
            vec!["-T", file, "-X", "POST", "-H", "Transfer-Encoding: chunked"],
        ] {
            let sum = curl(&web.name, scheme, "/sum").args(how).arg("--cacert").arg(&authority).output_text()?;
            ensure!(sum == expected, "{scheme}: {sum}");
        }
        let back = directory.path().join("back");
        let mut download = curl(&web.name, scheme, &format!("/bytes/{LARGE}"));
        download.arg("--cacert").arg(&authority).arg("-o").arg(&back).run()?.success()?;
        let (count, sum) = drain(File::open(&back)?)?;
        ensure!(format!("{count} {sum}") == expected, "{scheme}: {count} {sum}");
    }
    Ok(())
}

fn connect() -> Result<TcpStream> {
    stream::connect((Ipv4Addr::LOCALHOST, http_port()).into())
}

fn events_arrive_while_the_response_continues(machine: &Machine) -> Result<()> {
    let web = serving(machine, "", 80)?;
    let mut listener = connect()?;
    write!(listener, "GET /events HTTP/1.1\r\nHost: {}\r\n\r\n", host(&web.name))?;
    let mut lines = BufReader::new(listener).lines();
    for expected in 0..3 {
        // The server sends the next event only after this request, so the read proves that nothing is held back.
        let wanted = format!("data: {expected}");
        loop {
            let line = lines.next().context("the events ended")??;
            if line == wanted {
                break;
            }
        }
        ensure!(text(&get(&host(&web.name), "/release", &[])?) == "released");
    }
    Ok(())
}

fn a_web_socket_passes_both_ways(machine: &Machine) -> Result<()> {
    let web = serving(machine, "", 80)?;
    let (mut socket, answer) = client(format!("ws://{}/socket", host(&web.name)), connect()?)
        .map_err(|error| anyhow::anyhow!("no WebSocket: {error}"))?;
    ensure!(answer.status() == 101);
    let mut large = vec![0; 3 << 20];
    Pattern::default().fill(&mut large);
    for message in [Message::text("hello"), Message::binary(large)] {
        socket.send(message.clone())?;
        let back = socket.read()?;
        ensure!(back == message, "a message of {} bytes came back as {}", message.len(), back.len());
    }
    Ok(())
}

fn a_name_that_cannot_answer_gives_the_reason_and_the_fix(machine: &Machine) -> Result<()> {
    let web = serving(machine, "", 80)?;
    let name = web.name.as_str();
    let said = |name: &str, code: &str, fix: &str| -> Result<()> {
        let answer = get(&host(name), "/", &[("Accept", "application/json")])?;
        let document = answer.json()?;
        ensure!(answer.status == 502 && document["error"]["code"] == code, "{name}: {document}");
        ensure!(document["error"]["fix"].as_str().is_some_and(|text| text.contains(fix)), "{name}: {document}");
        Ok(())
    };
    ensure!(get(&host(name), "/head", &[])?.status == 200);
    machine.run(&format!("pause {name}"))?;
    said(name, "container-paused", "docker unpause")?;
    machine.run(&format!("unpause {name}"))?;
    machine.run(&format!("stop -t 1 {name}"))?;
    said(name, "container-stopped", "docker start")?;
    let page = get(&host(name), "/", &[("Accept", "text/html")])?;
    ensure!(page.headers.get("content-type").is_some_and(|kind| kind.starts_with("text/html")), "{page:?}");
    ensure!(text(&page).contains(&format!("<code>docker start {name}</code>")), "{}", text(&page));
    machine.run(&format!("start {name}"))?;
    rorqual_tests::eventually("it answers again", || {
        get(&host(name), "/head", &[]).is_ok_and(|answer| answer.status == 200).then_some(())
    })?;
    said("nobody", "container-unknown", "docker ps -a")?;
    let silent = Container::sleeping(machine, "--expose 8081")?;
    said(&silent.name, "container-not-listening", "dev.rorqual.http-port=8081")?;
    let odd = Container::sleeping(machine, "--label dev.rorqual.http-port=http")?;
    said(&odd.name, "label-invalid", "1 to 65535")?;
    let alone = Container::sleeping(machine, "--network none")?;
    said(&alone.name, "container-without-network", "docker network connect")?;
    Ok(())
}

fn the_list_names_every_running_container(machine: &Machine) -> Result<()> {
    let one = serving(machine, "", 80)?;
    let two = Container::sleeping(machine, "--label dev.rorqual.http-port=<b>")?;
    let off = Container::create(machine, "", &["true"])?;
    let base = format!("rorqual.localhost:{}", http_port());
    let page = get(&base, "/", &[("Accept", "text/html")])?;
    let html = text(&page);
    ensure!(
        page.status == 200 && html.contains("<html lang=\"en\">") && html.contains("prefers-color-scheme"),
        "{html}"
    );
    for name in [&one.name, &two.name] {
        ensure!(html.contains(&format!("<a href=\"http://{name}.{base}/\">")), "no link to {name}: {html}");
    }
    ensure!(!html.contains(&format!("{}.", off.name)) && !html.contains("<b>") && !html.contains("<script"), "{html}");
    let policy = page.headers.get("content-security-policy").cloned().unwrap_or_default();
    ensure!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    let list = get(&base, "/", &[("Accept", "application/json")])?.json()?;
    let names: Vec<_> =
        list["containers"].as_array().into_iter().flatten().map(|entry| entry["name"].clone()).collect();
    ensure!(names.contains(&one.name.as_str().into()) && !names.contains(&off.name.as_str().into()), "{list}");
    // A removed container disappears from the list.
    machine.run(&format!("rm -f {}", one.name))?;
    let html = text(&get(&base, "/", &[])?);
    ensure!(!html.contains(&format!("//{}.", one.name)), "{html}");
    Ok(())
}

fn other_names_and_other_sites_get_nothing(machine: &Machine) -> Result<()> {
    let web = serving(machine, "", 80)?;
    for foreign in ["example.com", "localhost", "127.0.0.1", "rorqual.localhost.example.com", ""] {
        let answer = get(foreign, "/", &[])?;
        ensure!(matches!(answer.status, 421 | 400), "{foreign:?} got {}", answer.status);
        ensure!(!text(&answer).contains(&web.name), "{foreign:?} learns names: {}", text(&answer));
    }
    // The request line takes precedence over the field.
    let mut stream = connect()?;
    write!(stream, "GET http://example.com/ HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", host(&web.name))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.1 421 "), "{answer}");
    for (path, method) in
        [("/containers/json", "GET"), ("/rorqual.engine.v1.Engine/Status", "POST"), ("/v1.41/info", "GET")]
    {
        let base = format!("rorqual.localhost:{}", http_port());
        let answer = web::request(http_port(), method, path, &[("Host", &base)], b"")?;
        ensure!(answer.status == 404, "{path}: {}", answer.status);
    }
    let from = |origin| [("Origin", origin), ("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "cors")];
    ensure!(get(&host(&web.name), "/head", &from("https://example.com"))?.status == 403);
    ensure!(get(&host(&web.name), "/head", &from("http://localhost:3000"))?.status == 200);
    Ok(())
}

fn https_is_verified_against_the_authority_alone(machine: &Machine) -> Result<()> {
    let web = serving(machine, "", 80)?;
    let authority = authority(machine)?;
    let head = curl(&web.name, "https", "/head").arg("--cacert").arg(&authority).output_text()?.to_lowercase();
    ensure!(head.contains("x-forwarded-proto: https"), "{head}");
    // No client trusts it by default, and it serves no other names.
    curl(&web.name, "https", "/head").run()?.exits(60)?;
    let mut foreign = Command::new("curl");
    foreign.args(["-sS", "--noproxy", "*", "--connect-to", "::127.0.0.1:", "--cacert"]).arg(&authority);
    let refused = foreign.arg(format!("https://example.com:{}/", https_port())).run()?;
    ensure!(refused.status != 0, "{refused}");
    let mode = fs::metadata(machine.home().join("https/authority.pem"))?.permissions().mode() & 0o777;
    ensure!(mode == 0o600, "the key is open to others: {mode:o}");
    Ok(())
}

fn the_authority_signs_for_no_other_name(machine: &Machine) -> Result<()> {
    authority(machine)?;
    let directory = tempfile::tempdir()?;
    let key = machine.home().join("https/authority.pem");
    // A thief of the key can sign anything, but clients reject it.
    let signed = |name: &str, alternative: &str| -> Result<Execution> {
        let at = |file: &str| directory.path().join(format!("{name}.{file}"));
        fs::write(at("ext"), format!("subjectAltName={alternative}\n"))?;
        let openssl = |arguments: &[&str], files: &[(&str, &Path)]| {
            let mut command = Command::new("openssl");
            command.args(arguments);
            for (option, file) in files {
                command.arg(option).arg(file);
            }
            command.run()
        };
        let subject = format!("/CN={name}");
        let request = ["req", "-new", "-newkey", "rsa:2048", "-nodes", "-subj", &subject];
        openssl(&request, &[("-keyout", &at("key")), ("-out", &at("csr"))])?.success()?;
        let sign = ["x509", "-req", "-days", "9", "-CAcreateserial"];
        let files = [
            ("-in", at("csr")),
            ("-CA", key.clone()),
            ("-CAkey", key.clone()),
            ("-extfile", at("ext")),
            ("-out", at("pem")),
        ];
        let files: Vec<(&str, &Path)> = files.iter().map(|(option, file)| (*option, file.as_path())).collect();
        // Otherwise the serial number file would be written beside the authority.
        let serial = at("srl");
        let files: Vec<_> = files.into_iter().chain([("-CAserial", serial.as_path())]).collect();
        openssl(&sign, &files)?.success()?;
        let ca = machine.home().join("https/ca.pem");
        Command::new("openssl").args(["verify", "-CAfile"]).arg(ca).arg(at("pem")).run()
    };
    signed("web.rorqual.localhost", "DNS:web.rorqual.localhost")?.success()?;
    for (name, alternative) in [("example.com", "DNS:example.com"), ("127.0.0.1", "IP:127.0.0.1")] {
        let verified = signed(name, alternative)?;
        ensure!(verified.status != 0 && format!("{verified}").contains("subtree"), "{verified}");
    }
    Ok(())
}

fn the_system_trusts_the_authority_by_one_command(machine: &Machine) -> Result<()> {
    if !geteuid().is_root() {
        suite::skip("the_system_trusts_the_authority_by_one_command", "a mount namespace needs root");
        return Ok(());
    }
    let web = serving(machine, "", 80)?;
    let rorqual = machine.programs().join("rorqual");
    let url = format!("https://{}.rorqual.localhost:{}/bytes/4", web.name, https_port());
    let user = tempfile::tempdir()?;
    // Uses trust stores in a namespace, so that this computer's stay unchanged.
    let script = format!(
        "set -eu
        mount -t tmpfs none /usr/local/share/ca-certificates
        cp -a /etc/ssl/certs {user}/certs; mount --bind {user}/certs /etc/ssl/certs
        fetch() {{ curl -sS --noproxy '*' --connect-to ::127.0.0.1: '{url}' > {user}/got; }}
        if fetch 2> {user}/refused; then echo trusted before; exit 9; fi
        {rorqual} https trust --json
        fetch; test \"$(wc -c < {user}/got)\" = 4
        {rorqual} https status --json
        {rorqual} https untrust --json
        if fetch 2> {user}/refused; then echo trusted after; exit 9; fi
        left=$(find /etc/ssl/certs -name '*rorqual*' -o -lname '*rorqual*')
        if [ -n \"$left\" ]; then echo left behind; exit 9; fi",
        user = user.path().display(),
        rorqual = rorqual.display(),
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", &script]);
    command.env("RORQUAL_HOME", machine.home()).env("HOME", user.path());
    let answers = command.run()?.success()?.json_lines()?;
    ensure!(
        answers.len() == 3 && answers[0]["trusted"] == true && answers[0]["todo"] == serde_json::json!([]),
        "{answers:?}"
    );
    ensure!(answers[1]["system"] == true && answers[2]["trusted"] == false, "{answers:?}");
    Ok(())
}

fn a_container_that_publishes_port_80_gets_it(machine: &Machine) -> Result<()> {
    let test = "a_container_that_publishes_port_80_gets_it";
    let routes =
        || -> Result<String> { Ok(machine.status()?["routes"]["http"].as_str().unwrap_or_default().to_owned()) };
    if routes()? != "http://rorqual.localhost/" {
        suite::skip(test, "port 80 of this computer is in use or needs privileges");
        return Ok(());
    }
    let web = serving(machine, "", 80)?;
    let named = || web::request(80, "GET", "/head", &[("Host", &format!("{}.rorqual.localhost", web.name))], b"");
    ensure!(named()?.status == 200);
    let published = serving(machine, "-p 80:80", 80)?;
    ensure!(web::request(80, "GET", "/head", &[("Host", "localhost")], b"")?.status == 200);
    ensure!(routes()? == format!("http://rorqual.localhost:{}/", http_port()), "{}", routes()?);
    ensure!(get(&host(&web.name), "/head", &[])?.status == 200);
    drop(published);
    rorqual_tests::eventually("the names have port 80 again", || {
        (named().is_ok_and(|answer| answer.status == 200) && routes().ok()? == "http://rorqual.localhost/")
            .then_some(())
    })
}
