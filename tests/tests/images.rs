//! Images: both builders, tags, archives, a registry.

use std::{fs, path::Path, process::ExitCode};

use anyhow::{Result, ensure};
use rorqual_tests::{
    Container, Execution, IMAGE, Machine, Run, docker::unique, eventually_ok, material::REGISTRY_IMAGE, suite, tests,
};

fn main() -> ExitCode {
    suite::main(
        2,
        Machine::start,
        tests![
            the_classic_builder_builds_stages_and_uses_its_cache,
            buildkit_builds_stages_with_secrets_and_cache_mounts,
            a_failing_step_fails_the_build_and_is_shown,
            save_and_load_keep_an_image_and_its_tags,
            prune_removes_unused_objects,
            an_image_is_pushed_to_and_pulled_from_a_registry_in_the_machine,
        ],
    )
}

const DOCKERFILE: &str = r#"FROM test AS builder
ARG COLOR=red
WORKDIR /work
COPY . .
RUN ls > listing && echo "built $COLOR" > result

FROM test
LABEL subject=whales
ENV GREETING=hello
EXPOSE 80
WORKDIR /app
COPY --from=builder /work/result /work/listing ./
ADD added.tar .
RUN echo last > last
ENTRYPOINT ["cat"]
CMD ["result"]
"#;

/// A build context whose `.dockerignore` leaves one file out.
fn context(directory: &Path, dockerfile: &str) -> Result<()> {
    fs::write(directory.join("Dockerfile"), dockerfile)?;
    fs::write(directory.join("sent"), "sent\n")?;
    fs::write(directory.join("left-out.txt"), "secret\n")?;
    fs::write(directory.join(".dockerignore"), "left-out*\n")?;
    fs::write(directory.join("unpacked"), "from the archive\n")?;
    let archive = rorqual_tests::material::pack_files(directory, &["unpacked"])?;
    fs::write(directory.join("added.tar"), archive)?;
    Ok(())
}

fn build(machine: &Machine, buildkit: bool, directory: &Path, options: &[&str]) -> Result<Execution> {
    let mut command = machine.docker(["build"]);
    if buildkit {
        command.args(["--progress", "plain"]);
    }
    command.args(options).arg(directory).env("DOCKER_BUILDKIT", if buildkit { "1" } else { "0" }).run()
}

/// Expectations for the image built from [`DOCKERFILE`].
fn check_built(machine: &Machine, image: &str, color: &str) -> Result<()> {
    let output = machine.run(&format!("run --rm {image} result listing unpacked last"))?;
    ensure!(output.starts_with(&format!("built {color}\n")), "{output}");
    ensure!(output.contains("sent") && output.contains("from the archive") && output.ends_with("last"), "{output}");
    ensure!(!output.contains("left-out"), "the ignored file was sent: {output}");
    let config = machine.docker(["inspect", "--format", "{{json .Config}}", image]).run()?.success()?.json()?;
    ensure!(config["Labels"]["subject"] == "whales" && config["WorkingDir"] == "/app", "{config}");
    ensure!(config["ExposedPorts"]["80/tcp"].is_object() && config["Cmd"][0] == "result", "{config}");
    ensure!(config["Env"].to_string().contains("GREETING=hello"), "{config}");
    Ok(())
}

fn the_classic_builder_builds_stages_and_uses_its_cache(machine: &Machine) -> Result<()> {
    let directory = tempfile::tempdir()?;
    context(directory.path(), DOCKERFILE)?;
    let options = ["-t", "classic", "--build-arg", "COLOR=green"];
    build(machine, false, directory.path(), &options)?.success()?;
    check_built(machine, "classic", "green")?;
    let again = build(machine, false, directory.path(), &options)?.success()?;
    ensure!(again.text().matches("Using cache").count() >= 8, "{again}");
    Ok(())
}

fn buildkit_builds_stages_with_secrets_and_cache_mounts(machine: &Machine) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let extra = "RUN --mount=type=secret,id=word --mount=type=cache,target=/cache \
                 test \"$(cat /run/secrets/word)\" = mum && echo x >> /cache/used && wc -l < /cache/used > /app/uses\n";
    context(
        directory.path(),
        &DOCKERFILE.replace("RUN echo last > last\n", &format!("RUN echo last > last\n{extra}")),
    )?;
    let secret = tempfile::NamedTempFile::new()?;
    fs::write(secret.path(), "mum")?;
    let secret = format!("id=word,src={}", secret.path().display());
    let options = ["-t", "kit", "--build-arg", "COLOR=blue", "--secret", &secret];
    build(machine, true, directory.path(), &options)?.success()?;
    check_built(machine, "kit", "blue")?;
    let again = build(machine, true, directory.path(), &options)?.success()?;
    ensure!(again.stderr.contains("CACHED"), "{again}");
    ensure!(machine.run("run --rm kit uses")? == "1");
    let history = machine.run("history --no-trunc kit")?;
    ensure!(history.contains("echo last") && !history.contains("mum\n"), "{history}");
    // buildx is the same builder under another name.
    let builders = machine.run("buildx ls")?;
    ensure!(builders.contains("running"), "{builders}");
    Ok(())
}

fn a_failing_step_fails_the_build_and_is_shown(machine: &Machine) -> Result<()> {
    for buildkit in [true, false] {
        let directory = tempfile::tempdir()?;
        context(directory.path(), "FROM test\nRUN echo before && exit 9\n")?;
        let execution = build(machine, buildkit, directory.path(), &[])?;
        ensure!(execution.status != 0 && execution.stderr.contains('9'), "{execution}");
        ensure!((execution.text() + &execution.stderr).contains("before"), "{execution}");
    }
    Ok(())
}

fn save_and_load_keep_an_image_and_its_tags(machine: &Machine) -> Result<()> {
    machine.run(&format!("tag {IMAGE} kept:one"))?;
    let id = machine.docker(["inspect", "--format", "{{.Id}}", "kept:one"]).output_text()?;
    let directory = tempfile::tempdir()?;
    let archive = directory.path().join("image.tar").display().to_string();
    machine.docker(["save", "-o", &archive, "kept:one"]).run()?.success()?;
    machine.run("rmi kept:one")?;
    machine.attempt("inspect kept:one")?.exits(1)?;
    let loaded = machine.docker(["load", "-i", &archive]).output_text()?;
    ensure!(loaded.contains("kept:one"), "{loaded}");
    ensure!(machine.docker(["inspect", "--format", "{{.Id}}", "kept:one"]).output_text()? == id);
    let sizes = machine.docker(["images", "--format", "{{.Repository}}:{{.Tag}} {{.Size}}"]).output_text()?;
    ensure!(sizes.lines().any(|line| line.starts_with("kept:one ") && line.ends_with("MB")), "{sizes}");
    machine.run("rmi kept:one")?;
    Ok(())
}

fn prune_removes_unused_objects(machine: &Machine) -> Result<()> {
    let directory = tempfile::tempdir()?;
    fs::write(directory.path().join("Dockerfile"), "FROM test\nLABEL purpose=pruned\n")?;
    build(machine, false, directory.path(), &["-t", "pruned"])?.success()?;
    let id = machine.docker(["inspect", "--format", "{{.Id}}", "pruned"]).output_text()?;
    machine.run("rmi --no-prune pruned")?;
    // Untagged and unused. The filter protects what other tests are building.
    let filter = ["image", "prune", "-af", "--filter", "label=purpose=pruned"];
    machine.docker(filter).run()?.success()?;
    machine.attempt(&format!("inspect {id}"))?.exits(1)?;
    machine.run(&format!("inspect {IMAGE}"))?;
    Ok(())
}

fn an_image_is_pushed_to_and_pulled_from_a_registry_in_the_machine(machine: &Machine) -> Result<()> {
    machine.load_registry_image()?;
    let registry = Container::named(machine);
    let create = ["create", "--name", &registry.name, "-p", "5000:5000", REGISTRY_IMAGE, "serve", "/etc/registry.yml"];
    machine.docker(create).run()?.success()?;
    let configuration = tempfile::NamedTempFile::new()?;
    fs::write(
        configuration.path(),
        "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: /tmp/registry\nhttp:\n  addr: :5000\n",
    )?;
    let target = format!("{}:/etc/registry.yml", registry.name);
    machine.docker(["cp", &configuration.path().display().to_string(), &target]).run()?.success()?;
    machine.run(&format!("start {}", registry.name))?;

    let name = format!("localhost:5000/{}", unique("pushed"));
    machine.run(&format!("tag {IMAGE} {name}"))?;
    eventually_ok("the registry takes the image", || machine.run(&format!("push {name}")))?;
    let id = machine.docker(["inspect", "--format", "{{.Id}}", &name]).output_text()?;
    machine.run(&format!("rmi {name}"))?;
    let pulled = machine.run(&format!("pull {name}"))?;
    ensure!(pulled.contains("Digest: sha256:"), "{pulled}");
    ensure!(machine.docker(["inspect", "--format", "{{.Id}}", &name]).output_text()? == id);
    machine.attempt("pull localhost:5000/nothing-there")?.exits(1)?;
    Ok(())
}
