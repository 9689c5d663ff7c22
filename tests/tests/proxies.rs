//! The user's proxies: pulls use them, builds and containers too if configured, and no password leaks.

use std::{
    fs,
    io::{BufRead, BufReader, Cursor, Read, Write},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};

use anyhow::{Context, Result, bail, ensure};
use rorqual_tests::{
    Container, IMAGE, Machine, Run, Server, Web, docker::unique, eventually_ok, material, suite, tests,
};
use serde_json::json;

/// Only the proxy may see this.
const PASSWORD: &str = "hunter22-of-the-proxy";
/// `me:` and the password, as an HTTP client encodes it.
const LOGIN: &str = "basic bWU6aHVudGVyMjItb2YtdGhlLXByb3h5";

/// The proxies of this suite, which count their connections.
static HTTP_PORT: Mutex<u16> = Mutex::new(0);
static SOCKS_PORT: Mutex<u16> = Mutex::new(0);
static PLAIN: AtomicU32 = AtomicU32::new(0);
static TUNNELS: AtomicU32 = AtomicU32::new(0);
static REFUSED: AtomicU32 = AtomicU32::new(0);
static SOCKS: AtomicU32 = AtomicU32::new(0);

fn main() -> ExitCode {
    suite::main(
        1,
        start,
        tests![
            a_pull_goes_through_the_proxy_with_its_login,
            builds_and_containers_get_the_proxy_when_asked,
            no_password_appears_in_logs_or_reports,
            a_proxy_in_the_settings_takes_precedence_and_may_speak_socks5,
        ],
    )
}

/// A machine whose user has a proxy on this computer's loopback in the environment.
fn start() -> Result<Machine> {
    let http = serve(http_proxy)?;
    *HTTP_PORT.lock().map_err(|_| anyhow::anyhow!("poisoned"))? = http;
    *SOCKS_PORT.lock().map_err(|_| anyhow::anyhow!("poisoned"))? = serve(socks_proxy)?;
    let machine = Machine::prepare()?;
    fs::write(machine.home().join("config.toml"), "[proxy]\ncontainers = true\n[routes]\nenabled = false\n")?;
    let proxy = format!("http://me:{PASSWORD}@127.0.0.1:{http}");
    let mut start = machine.rorqual(["start", "-q"]);
    for name in ["all_proxy", "ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"] {
        start.env_remove(name);
    }
    start.env("http_proxy", &proxy).env("https_proxy", &proxy).env("no_proxy", "direct.test");
    machine.started_by(start)
}

fn port(of: &Mutex<u16>) -> Result<u16> {
    Ok(*of.lock().map_err(|_| anyhow::anyhow!("poisoned"))?)
}

/// Serves connections on a free port until the tests end.
fn serve(connection: fn(TcpStream) -> Result<()>) -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || {
                if let Err(error) = connection(stream) {
                    eprintln!("the proxy: {error:#}");
                }
            });
        }
    });
    Ok(port)
}

/// Copies bytes both ways until both ends have closed.
fn join(one: TcpStream, other: TcpStream) -> Result<()> {
    let (mut from, mut to) = (one.try_clone()?, other.try_clone()?);
    let back = thread::spawn(move || {
        std::io::copy(&mut from, &mut to).ok();
        to.shutdown(Shutdown::Write).ok();
    });
    let (mut from, mut to) = (other, one);
    std::io::copy(&mut from, &mut to).ok();
    to.shutdown(Shutdown::Write).ok();
    back.join().ok();
    Ok(())
}

/// A proxy of HTTP that wants a login. Every address leads to this computer, for it is asked for no other; the name
/// `only.the.proxy.test` is answered by itself.
fn http_proxy(mut client: TcpStream) -> Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Ok(());
        }
    }
    let (line, fields) = head.split_once("\r\n").context("no request")?;
    let mut words = line.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().context("no target")?);
    let login = fields
        .lines()
        .filter_map(|line| line.split_once(": "))
        .find(|(name, _)| name.eq_ignore_ascii_case("proxy-authorization"));
    if !login.is_some_and(|(_, value)| value.eq_ignore_ascii_case(LOGIN)) {
        REFUSED.fetch_add(1, Ordering::SeqCst);
        client.write_all(
            b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        )?;
        bail!("a request without the login: {line}");
    }
    let authority = target.trim_start_matches("http://").split('/').next().unwrap_or_default();
    if authority == "only.the.proxy.test" {
        client.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\nby proxy\n")?;
        return Ok(());
    }
    let port: u16 = authority.rsplit_once(':').context("no port")?.1.parse()?;
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    if method == "CONNECT" {
        TUNNELS.fetch_add(1, Ordering::SeqCst);
        client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
    } else {
        PLAIN.fetch_add(1, Ordering::SeqCst);
        let path = target.trim_start_matches("http://").split_once('/').map_or("", |(_, path)| path);
        // One request per connection, so that the next one is counted too.
        write!(server, "{method} /{path} HTTP/1.1\r\n")?;
        for field in fields.lines().filter(|field| !field.is_empty()) {
            let name = field.split(':').next().unwrap_or_default().to_lowercase();
            if !name.starts_with("proxy-") && name != "connection" {
                write!(server, "{field}\r\n")?;
            }
        }
        server.write_all(b"Connection: close\r\n\r\n")?;
    }
    server.write_all(reader.buffer())?;
    join(client, server)
}

/// A SOCKS5 proxy without a login (RFC 1928). Every address leads to this computer.
fn socks_proxy(mut client: TcpStream) -> Result<()> {
    let mut hello = [0; 2];
    client.read_exact(&mut hello)?;
    let mut methods = vec![0; hello[1].into()];
    client.read_exact(&mut methods)?;
    ensure!(hello[0] == 5 && methods.contains(&0), "no SOCKS5 without a login: {hello:?} {methods:?}");
    client.write_all(&[5, 0])?;
    let mut request = [0; 4];
    client.read_exact(&mut request)?;
    let length = match request[3] {
        1 => 4,
        4 => 16,
        3 => {
            let mut length = [0];
            client.read_exact(&mut length)?;
            length[0].into()
        }
        kind => bail!("no kind of address: {kind}"),
    };
    let mut address = vec![0; length + 2];
    client.read_exact(&mut address)?;
    let port = u16::from_be_bytes([address[length], address[length + 1]]);
    let server = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    SOCKS.fetch_add(1, Ordering::SeqCst);
    client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])?;
    join(client, server)
}

/// A registry on this computer with an image in it that the engine has no more. Its address is not among those that are
/// always asked directly.
struct Registry {
    image: String,
    _server: Server,
    _files: tempfile::TempDir,
}

impl Registry {
    fn start(machine: &Machine) -> Result<Self> {
        let files = tempfile::tempdir()?;
        let mut registry = material::unpack_registry(files.path())?;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let settings = files.path().join("registry.yml");
        let storage = format!("{{filesystem: {{rootdirectory: {}}}}}", files.path().join("data").display());
        fs::write(&settings, format!("version: 0.1\nstorage: {storage}\nhttp: {{addr: '127.0.0.1:{port}'}}\n"))?;
        registry.arg("serve").arg(&settings);
        let server = Server::start(registry)?;
        let container = Container::sleeping(machine, "")?;
        let found = container.exec(&["nslookup", "host.docker.internal"])?;
        let found = found.split_once("Name:").map_or("", |(_, rest)| rest);
        let address = found.split_whitespace().find(|word| word.parse::<Ipv4Addr>().is_ok()).context("no address")?;
        let mut registry = Self { image: String::new(), _server: server, _files: files };
        // Its name is excluded from the proxy.
        let direct = format!("host.docker.internal:{port}/busy:1");
        let before = carried();
        machine.run(&format!("tag {IMAGE} {direct}"))?;
        eventually_ok("the registry takes an image", || machine.run(&format!("push -q {direct}")))?;
        machine.run(&format!("rmi {direct}"))?;
        ensure!(carried() == before, "this computer was asked through the proxy");
        registry.image = format!("{address}:{port}/busy:1");
        Ok(registry)
    }
}

/// Connections of the proxies so far: plain requests, tunnels, SOCKS5.
fn carried() -> (u32, u32, u32) {
    (PLAIN.load(Ordering::SeqCst), TUNNELS.load(Ordering::SeqCst), SOCKS.load(Ordering::SeqCst))
}

fn a_pull_goes_through_the_proxy_with_its_login(machine: &Machine) -> Result<()> {
    let registry = Registry::start(machine)?;
    let (before, refused) = (carried(), REFUSED.load(Ordering::SeqCst));
    machine.run(&format!("pull -q {}", registry.image))?;
    let after = carried();
    // The client tries TLS first, through a tunnel, and then plain HTTP.
    ensure!(after.0 > before.0 && after.1 > before.1 && after.2 == before.2, "{before:?} {after:?}");
    ensure!(REFUSED.load(Ordering::SeqCst) == refused, "the login did not arrive");
    ensure!(machine.run(&format!("run --rm {} echo pulled", registry.image))? == "pulled");
    machine.run(&format!("rmi {}", registry.image))?;
    Ok(())
}

fn builds_and_containers_get_the_proxy_when_asked(machine: &Machine) -> Result<()> {
    let expected = format!("http://me:{PASSWORD}@host.docker.internal:{}", port(&HTTP_PORT)?);
    let environment = machine.run(&format!("run --rm {IMAGE} env"))?;
    for name in ["http_proxy", "HTTPS_PROXY"] {
        ensure!(environment.lines().any(|line| line == format!("{name}={expected}")), "no {name}: {environment}");
    }
    ensure!(environment.contains("no_proxy=direct.test,localhost,"), "{environment}");
    let fetched = machine.run(&format!("run --rm {IMAGE} wget -q -O - http://only.the.proxy.test/"))?;
    ensure!(fetched == "by proxy", "{fetched}");
    let directory = tempfile::tempdir()?;
    fs::write(directory.path().join("Dockerfile"), format!("FROM {IMAGE}\nRUN echo \"$HTTPS_PROXY\" > /got\n"))?;
    let image = unique("built");
    let folder = directory.path().to_str().context("a path that is not text")?;
    machine.docker(["build", "-q", "-t", &image, folder]).run()?.success()?;
    ensure!(machine.run(&format!("run --rm {image} cat /got"))? == expected);
    let history = machine.run(&format!("history --no-trunc {image}"))?;
    ensure!(!history.contains(PASSWORD), "{history}");
    machine.run(&format!("rmi {image}"))?;
    Ok(())
}

fn no_password_appears_in_logs_or_reports(machine: &Machine) -> Result<()> {
    let _container = Container::sleeping(machine, "")?;
    for source in ["kernel", "agent", "containerd", "dockerd", "vmm", "daemon"] {
        let log = machine.rorqual(["logs", source]).run()?.success()?;
        ensure!(!log.text().contains(PASSWORD), "the password is in the log of {source}");
    }
    ensure!(!machine.run("info")?.contains(PASSWORD), "docker info shows the password");
    ensure!(!machine.status()?.to_string().contains(PASSWORD));
    let vmm = fs::read_to_string(machine.directory().join("vmm.json"))?;
    ensure!(!vmm.contains(PASSWORD), "the monitor's configuration has the password");
    let (_, bundle) = Web::start(machine)?.whole("diagnose.bundle", &json!({}))?;
    let mut archive = zip::ZipArchive::new(Cursor::new(bundle))?;
    for index in 0..archive.len() {
        let mut file = archive.by_index(index)?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        ensure!(!text.contains(PASSWORD), "the password is in the bundle, in {}", file.name()?);
    }
    Ok(())
}

fn a_proxy_in_the_settings_takes_precedence_and_may_speak_socks5(machine: &Machine) -> Result<()> {
    let socks = format!("socks5://127.0.0.1:{}", port(&SOCKS_PORT)?);
    let settings = machine.home().join("config.toml");
    fs::write(&settings, format!("[proxy]\nhttp = \"{socks}\"\nhttps = \"{socks}\"\n[routes]\nenabled = false\n"))?;
    machine.rorqual(["restart", "-q"]).run()?.success()?;
    let registry = Registry::start(machine)?;
    let before = carried();
    machine.run(&format!("pull -q {}", registry.image))?;
    let after = carried();
    ensure!(after.2 > before.2 && (after.0, after.1) == (before.0, before.1), "{before:?} {after:?}");
    machine.run(&format!("rmi {}", registry.image))?;
    // Builds and containers no longer get it.
    let environment = machine.run(&format!("run --rm {IMAGE} env"))?;
    ensure!(!environment.to_lowercase().contains("proxy"), "{environment}");
    // An invalid one is rejected with its line number, without its value.
    fs::write(&settings, format!("[proxy]\nhttps = \"ftp://me:{PASSWORD}@proxy\"\n"))?;
    let refused = machine.rorqual(["restart"]).run()?;
    ensure!(refused.status != 0 && refused.stderr.contains("config.toml:2: https in [proxy] must be"), "{refused}");
    ensure!(!refused.stderr.contains(PASSWORD), "{refused}");
    Ok(())
}
