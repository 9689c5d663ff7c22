//! `docker.sock`: the guest's Docker socket, byte for byte.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::Shutdown,
    os::unix::{
        fs::{FileTypeExt, PermissionsExt},
        net::UnixStream,
    },
    process::{ExitCode, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use rorqual_tests::{
    Container, Machine, Run,
    stream::{Pattern, checksum},
    suite, tests,
};

fn main() -> ExitCode {
    suite::main(
        1,
        Machine::start,
        tests![
            a_gigabyte_arrives_whole,
            the_end_of_input_reaches_the_command_while_its_output_continues,
            a_hijacked_connection_is_half_closed_like_any_socket,
            two_hundred_connections_are_served_at_once,
            only_its_user_reaches_the_socket,
        ],
    )
}

fn connect(machine: &Machine) -> Result<UnixStream> {
    let stream = UnixStream::connect(machine.docker_socket())?;
    stream.set_read_timeout(Some(Duration::from_mins(2)))?;
    Ok(stream)
}

fn a_gigabyte_arrives_whole(machine: &Machine) -> Result<()> {
    const SIZE: usize = 1 << 30;
    let container = Container::sleeping(machine, "")?;
    let mut exec = machine.docker(["exec", &container.name, "/peer", "send", &SIZE.to_string()]);
    let mut child = exec.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let mut output = child.stdout.take().context("no standard output")?;
    let mut pattern = Pattern::default();
    let (mut expected, mut found) = (vec![0; 256 * 1024], vec![0; 256 * 1024]);
    for block in 0..SIZE / expected.len() {
        pattern.fill(&mut expected);
        output.read_exact(&mut found).with_context(|| format!("after {block} blocks of 256 KiB"))?;
        ensure!(expected == found, "block {block} of 256 KiB is not what was sent");
    }
    ensure!(output.read(&mut found)? == 0, "more arrived than was sent");
    ensure!(child.wait()?.success());
    Ok(())
}

fn the_end_of_input_reaches_the_command_while_its_output_continues(machine: &Machine) -> Result<()> {
    let container = Container::sleeping(machine, "")?;
    let input: Vec<u8> = (0..8_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let script = "sha256sum | cut -d' ' -f1; echo after the end; /peer send 1000000 | sha256sum | cut -d' ' -f1";
    let exec = machine.docker(["exec", "-i", &container.name, "sh", "-c", script]).run_with_input(&input)?.success()?;
    let last = rorqual_tests::stream::expected_checksum(1_000_000);
    ensure!(exec.text() == format!("{}\nafter the end\n{last}", checksum(&input)), "{exec}");
    Ok(())
}

/// Speaks HTTP by hand: an upgraded `attach` whose writing side is closed must keep answering.
fn a_hijacked_connection_is_half_closed_like_any_socket(machine: &Machine) -> Result<()> {
    let container = Container::create(machine, "-i", &["sh", "-c", "wc -c; echo finished"])?;
    let mut stream = connect(machine)?;
    let query = "stream=1&stdin=1&stdout=1&stderr=1";
    write!(
        stream,
        "POST /containers/{}/attach?{query} HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n",
        container.name
    )?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        ensure!(reader.read_line(&mut head)? > 0, "the head ends early: {head}");
    }
    ensure!(head.starts_with("HTTP/1.1 101 "), "{head}");
    machine.run(&format!("start {}", container.name))?;
    stream.write_all(&b"x".repeat(100_000))?;
    stream.shutdown(Shutdown::Write)?;
    let mut output = Vec::new();
    reader.read_to_end(&mut output)?;
    let output = String::from_utf8_lossy(&output);
    ensure!(output.contains("100000") && output.contains("finished"), "{output:?}");
    Ok(())
}

fn two_hundred_connections_are_served_at_once(machine: &Machine) -> Result<()> {
    let mut streams = (0..200).map(|_| connect(machine)).collect::<Result<Vec<_>>>()?;
    // All connections are open and have sent a request before the first answer is read; each sends two requests.
    for _ in 0..2 {
        for stream in &mut streams {
            stream.write_all(b"GET /_ping HTTP/1.1\r\nHost: docker\r\n\r\n")?;
        }
        for (number, stream) in streams.iter_mut().enumerate() {
            let mut answer = Vec::new();
            let mut byte = [0];
            while !answer.ends_with(b"\r\n\r\nOK") {
                ensure!(
                    stream.read(&mut byte)? == 1,
                    "connection {number} ended: {}",
                    String::from_utf8_lossy(&answer)
                );
                answer.push(byte[0]);
            }
            ensure!(answer.starts_with(b"HTTP/1.1 200 "), "connection {number}: {}", String::from_utf8_lossy(&answer));
        }
    }
    Ok(())
}

fn only_its_user_reaches_the_socket(machine: &Machine) -> Result<()> {
    let mode = |path: &std::path::Path| -> Result<u32> { Ok(fs::metadata(path)?.permissions().mode() & 0o777) };
    for socket in ["docker.sock", "engine.sock"] {
        let path = machine.home().join("run").join(socket);
        ensure!(fs::metadata(&path)?.file_type().is_socket() && mode(&path)? == 0o600, "{socket}: {:o}", mode(&path)?);
    }
    for directory in [machine.home().join("run"), machine.directory(), machine.home().to_owned()] {
        ensure!(mode(&directory)? == 0o700, "{}: {:o}", directory.display(), mode(&directory)?);
    }
    Ok(())
}
