//! Volumes: shared, lasting, pruned.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use rorqual_tests::{Container, IMAGE, Machine, Run, docker::unique, suite, tests};

fn main() -> ExitCode {
    suite::main(
        1,
        Machine::start,
        tests![
            two_containers_share_a_volume,
            a_volume_outlives_its_container_and_a_restart_of_the_machine,
            a_volume_in_use_is_not_removed_and_an_unused_one_is_pruned,
            a_new_volume_starts_with_what_the_image_has_there,
            a_tmpfs_and_a_read_only_volume_are_what_they_say,
        ],
    )
}

fn two_containers_share_a_volume(machine: &Machine) -> Result<()> {
    let volume = unique("v");
    let first = Container::sleeping(machine, &format!("-v {volume}:/shared"))?;
    let second = Container::sleeping(machine, &format!("--mount type=volume,src={volume},dst=/elsewhere"))?;
    first.exec(&["sh", "-c", "echo from the first > /shared/file"])?;
    ensure!(second.exec(&["cat", "/elsewhere/file"])? == "from the first");
    second.exec(&["rm", "/elsewhere/file"])?;
    ensure!(first.exec(&["ls", "/shared"])?.is_empty());
    Ok(())
}

fn a_volume_outlives_its_container_and_a_restart_of_the_machine(machine: &Machine) -> Result<()> {
    let volume = unique("v");
    let write = ["sh", "-c", "echo lasting > /data/file"];
    machine.docker(["run", "--rm", "-v", &format!("{volume}:/data"), IMAGE]).args(write).run()?.success()?;
    machine.rorqual(["restart", "-q"]).run()?.success()?;
    ensure!(machine.run(&format!("run --rm -v {volume}:/data {IMAGE} cat /data/file"))? == "lasting");
    let inspect = machine.attempt(&format!("volume inspect {volume}"))?.success()?.json()?;
    ensure!(inspect[0]["Driver"] == "local", "{inspect}");
    Ok(())
}

fn a_volume_in_use_is_not_removed_and_an_unused_one_is_pruned(machine: &Machine) -> Result<()> {
    let volume = unique("v");
    machine.run(&format!("volume create --label purpose=pruned {volume}"))?;
    let container = Container::create(machine, &format!("-v {volume}:/data"), &["true"])?;
    machine.attempt(&format!("volume rm {volume}"))?.exits(1)?.complains("volume is in use")?;
    let prune = ["volume", "prune", "-af", "--filter", "label=purpose=pruned"];
    machine.docker(prune).run()?.success()?;
    machine.run(&format!("volume inspect {volume}"))?;
    drop(container);
    machine.docker(prune).run()?.success()?;
    machine.attempt(&format!("volume inspect {volume}"))?.exits(1)?;
    Ok(())
}

fn a_new_volume_starts_with_what_the_image_has_there(machine: &Machine) -> Result<()> {
    let users = machine.run(&format!("run --rm -v {}:/etc {IMAGE} cat /etc/passwd", unique("v")))?;
    ensure!(users.contains("user:x:1000"), "{users}");
    Ok(())
}

fn a_tmpfs_and_a_read_only_volume_are_what_they_say(machine: &Machine) -> Result<()> {
    let volume = unique("v");
    let options = format!("--read-only --tmpfs /scratch:size=1m -v {volume}:/data:ro");
    let container = Container::sleeping(machine, &options)?;
    container.exec(&["touch", "/scratch/file"])?;
    for path in ["/data/file", "/file"] {
        let touch = machine.attempt(&format!("exec {} touch {path}", container.name))?;
        touch.exits(1)?.complains("read-only")?;
    }
    let mounts = container.exec(&["cat", "/proc/mounts"])?;
    ensure!(mounts.lines().any(|line| line.starts_with("tmpfs /scratch tmpfs")), "{mounts}");
    Ok(())
}
