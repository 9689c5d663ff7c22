//! The table of all calls and streams: names, types, handlers.

use std::{collections::BTreeMap, fmt::Write};

use ts_rs::{Config, TS, TypeVisitor};

#[allow(clippy::wildcard_imports, reason = "the table names every type of the contract")]
use super::*;

/// A row of the table: its name, its doc line and its types in TypeScript.
#[derive(Clone, Copy)]
pub struct Row {
    /// Name on the wire: subject, dot, verb.
    pub name: &'static str,
    /// Its doc line.
    pub about: &'static str,
    /// Its types. A call has parameters and result; a stream has parameters, event and input.
    types: fn(&mut Declarations) -> Vec<String>,
}

/// Passes every call (parameters, result, handler) to the macro `$then`.
macro_rules! each_call {
    ($then:ident) => {
        $then! {
            "app.information": Empty => Information, app::information; "About this installation of Rorqual."
            "app.finishFirstRun": Empty => Empty, app::finish_first_run;
                "Marks the first run as complete, so that it is not shown again."

            "container.start": ContainerTarget => Empty, verbs::start; "Starts a container."
            "container.stop": ContainerTarget => Empty, verbs::stop;
                "Stops a container: SIGTERM, then SIGKILL after its timeout."
            "container.restart": ContainerTarget => Empty, verbs::restart; "Restarts a container."
            "container.kill": ContainerTarget => Empty, verbs::kill; "Kills a container with SIGKILL."
            "container.pause": ContainerTarget => Empty, verbs::pause; "Pauses a container."
            "container.unpause": ContainerTarget => Empty, verbs::unpause; "Resumes a paused container."
            "container.remove": ContainerRemove => Empty, verbs::remove; "Removes a container."
            "container.rename": ContainerRename => Empty, verbs::rename; "Renames a container."
            "container.commit": ContainerCommit => Created, verbs::commit; "Creates an image from a container."
            "container.inspect": ContainerTarget => ContainerDetail, detail::inspect; "Details of a container."
            "container.processes": ContainerTarget => Processes, detail::processes; "Processes of a container."
            "container.changes": ContainerTarget => Vec<FileChange>, detail::changes;
                "Differences between a container and its image."
            "containers.prune": Empty => Pruned, verbs::prune; "Removes all containers that do not run."

            "image.inspect": ImageTarget => ImageDetail, images::inspect; "Details of an image."
            "image.tag": ImageTag => Empty, images::tag; "Tags an image."
            "image.remove": ImageRemove => Vec<String>, images::remove;
                "Removes an image or one of its names; returns what was removed."
            "images.prune": ImagesPrune => Pruned, images::prune; "Removes unused images."
            "images.search": ImageSearch => Vec<ImageFound>, images::search; "Searches a registry for images."

            "volume.create": VolumeCreate => Volume, volumes::create; "Creates a volume."
            "volume.remove": VolumeTarget => Empty, volumes::remove; "Removes a volume and its content."
            "volumes.prune": VolumesPrune => Pruned, volumes::prune; "Removes unused volumes."

            "network.create": NetworkCreate => Created, networks::create; "Creates a network."
            "network.remove": NetworkTarget => Empty, networks::remove; "Removes a network."
            "network.connect": NetworkMembership => Empty, networks::connect; "Connects a container to a network."
            "network.disconnect": NetworkMembership => Empty, networks::disconnect;
                "Disconnects a container from a network."
            "networks.prune": Empty => Pruned, networks::prune; "Removes unused networks."

            "files.list": FileTarget => FileList, files::list; "Lists a directory."
            "files.remove": FileTarget => Empty, files::remove; "Removes a file, or a directory with its content."
            "files.createFolder": FileTarget => Empty, files::create_folder; "Creates a directory."
            "files.move": FileMove => Empty, files::move_file; "Moves or renames a file or directory."
            "host.folder": HostFolderTarget => HostFolder, files::host_folder; "Lists a folder of this computer."

            "builds.history": Empty => Vec<BuildRecord>, build::history; "The history of builds, newest first."
            "builds.inspect": BuildTarget => BuildDetail, build::inspect; "A build of the history with its output."
            "builds.remove": BuildTarget => Empty, build::remove; "Removes a build from the history."
            "builds.pruneCache": Empty => Pruned, build::prune_cache; "Removes unused build cache."

            "registries.list": Empty => Vec<Registry>, registries::list; "Registries the user is logged in to."
            "registry.login": RegistryLogin => Empty, registries::login; "Logs in to a registry."
            "registry.logout": RegistryTarget => Empty, registries::logout; "Logs out of a registry."

            "system.usage": Empty => DiskUsage, app::usage; "Disk space used by the engine, by kind."
            "settings.get": Empty => Settings, settings::get; "All settings."
            "settings.change": SettingChange => Setting, settings::change;
                "Changes one setting and returns its new state."
            "diagnose.checks": Empty => Vec<Check>, diagnose::checks; "Runs every check."
            "diagnose.resetPlans": Empty => Vec<ResetPlan>, diagnose::reset_plans;
                "The levels of reset and what each would delete now."
        }
    };
}
pub(crate) use each_call;

/// Passes every stream (parameters, event, input, handler) to the macro `$then`. Those marked "Bytes" also carry raw
/// bytes.
macro_rules! each_stream {
    ($then:ident) => {
        $then! {
            "machines": Empty => MachinesEvent, Never, machine::machines;
                "All machines, or why the daemon does not answer."
            "machine.start": MachineStart => Step, Never, machine::start;
                "Starts a machine, and the daemon if it does not run. Reports each step."
            "machine.stop": MachineStop => Step, Never, machine::stop; "Stops a machine. Reports each step."
            "machine.restart": MachineTarget => Step, Never, machine::restart; "Restarts a machine. Reports each step."
            "machine.suspend": MachineTarget => Step, Never, machine::suspend; "Suspends a machine. Reports each step."
            "machine.samples": MachineTarget => MachineSample, Never, machine::samples;
                "Resource use of a machine, about once a second."
            "machine.log": MachineLog => Never, Never, machine::log; "Follows a log. Bytes from the engine."
            "machine.shell": MachineShell => TerminalEvent, TerminalInput, machine::shell;
                "A shell in a machine. Bytes both ways."

            "containers": Empty => ListEvent<Container>, Never, lists::containers; "All containers, and each change."
            "containers.samples": SampleTargets => ContainerSamples, Never, samples::samples;
                "Resource use of containers, about once a second."
            "container.run": ContainerRun => ContainerRunEvent, Never, run::run;
                "Creates and starts a container; pulls its image first if it is missing."
            "container.logs": ContainerLogs => LogLines, Never, logs::logs; "A container's log."
            "container.terminal": ContainerTerminal => TerminalEvent, TerminalInput, terminal::terminal;
                "A terminal in a container. Bytes both ways."

            "images": Empty => ListEvent<Image>, Never, lists::images; "All images, and each change."
            "image.pull": ImagePull => PullProgress, Never, pull::pull; "Pulls an image."
            "image.push": ImageTarget => PullProgress, Never, pull::push; "Pushes an image."
            "image.save": ImageSave => Download, Never, images::save; "Saves images as a tar. Bytes from the engine."
            "image.load": Empty => ImageLoaded, UploadInput, images::load;
                "Loads images from a tar. Bytes to the engine."

            "volumes": Empty => ListEvent<Volume>, Never, lists::volumes; "All volumes, and each change."
            "networks": Empty => ListEvent<Network>, Never, lists::networks; "All networks, and each change."

            "files.read": FileTarget => Download, Never, files::read;
                "Reads a file, or a directory as a tar. Bytes from the engine."
            "files.write": FileWrite => Empty, UploadInput, files::write; "Writes a file. Bytes to the engine."

            "build.run": BuildRun => BuildEvent, Never, build::run; "Builds an image."
            "engine.events": Empty => EngineEvent, Never, app::events; "Events of the engine."
            "diagnose.bundle": Empty => Download, Never, diagnose::bundle;
                "A zip for bug reports, without secrets. Bytes from the engine."
            "diagnose.reset": Reset => Step, Never, diagnose::reset; "Performs a reset. Reports each step."
        }
    };
}
pub(crate) use each_stream;

macro_rules! call_rows {
    ($($name:literal: $params:ty => $result:ty, $handler:path; $about:literal)*) => {
        &[$(Row {
            name: $name,
            about: $about,
            types: |declarations| vec![declarations.name_of::<$params>(), declarations.name_of::<$result>()],
        }),*]
    };
}

macro_rules! stream_rows {
    ($($name:literal: $params:ty => $event:ty, $input:ty, $handler:path; $about:literal)*) => {
        &[$(Row {
            name: $name,
            about: $about,
            types: |declarations| vec![
                declarations.name_of::<$params>(),
                declarations.name_of::<$event>(),
                declarations.name_of::<$input>(),
            ],
        }),*]
    };
}

/// Every call: parameters, result.
pub const CALLS: &[Row] = each_call!(call_rows);

/// Every stream: parameters, event, input.
pub const STREAMS: &[Row] = each_stream!(stream_rows);

/// TypeScript of the table and of all types it refers to: the interfaces `Calls` and `Streams`, then the types by name.
pub fn typescript() -> String {
    let mut declarations = Declarations { config: Config::default(), types: BTreeMap::new() };
    let mut text = String::from("// Generated from app/backend/src/contract by `make types`; do not edit.\n");
    for (interface, rows, fields) in
        [("Calls", CALLS, &["params", "result"][..]), ("Streams", STREAMS, &["params", "event", "input"][..])]
    {
        let _ = write!(text, "\nexport interface {interface} {{\n");
        for Row { name, about, types } in rows {
            let types = types(&mut declarations);
            let fields: Vec<String> =
                fields.iter().zip(types).map(|(field, kind)| format!("{field}: {kind}")).collect();
            let _ = write!(text, "  /** {about} */\n  \"{name}\": {{ {} }};\n", fields.join("; "));
        }
        text.push_str("}\n");
    }
    for declaration in declarations.types.values() {
        let _ = write!(text, "\n{declaration}\n");
    }
    text
}

/// The TypeScript declarations of the types met so far, by name.
struct Declarations {
    config: Config,
    types: BTreeMap<String, String>,
}

impl Declarations {
    fn name_of<T: TS + 'static + ?Sized>(&mut self) -> String {
        self.visit::<T>();
        T::name(&self.config)
    }
}

impl TypeVisitor for Declarations {
    fn visit<T: TS + 'static + ?Sized>(&mut self) {
        // Each use of a generic type refers to other types.
        T::visit_generics(self);
        // TypeScript's own types (strings, arrays) need no declaration.
        if T::output_path().is_some() {
            let ident = T::ident(&self.config);
            if self.types.contains_key(&ident) {
                return;
            }
            let documentation = T::docs().unwrap_or_default();
            self.types.insert(ident, format!("{documentation}export {}", T::decl(&self.config)));
        }
        T::visit_dependencies(self);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // `make types` sets this to write the file.
    const WRITE: &str = "RORQUAL_WRITE_TYPES";

    #[test]
    fn the_pages_have_the_types_of_this_contract() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../ui/src/lib/backend/generated/contract.ts");
        let now = typescript();
        if std::env::var_os(WRITE).is_some() {
            std::fs::create_dir_all(std::path::Path::new(file).parent().unwrap()).unwrap();
            std::fs::write(file, now).unwrap();
            return;
        }
        let then = std::fs::read_to_string(file).unwrap_or_default();
        assert!(then == now, "{file} is out of date: run `make types`");
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = CALLS.iter().chain(STREAMS).map(|row| row.name).collect();
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
