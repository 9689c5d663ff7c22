//! The table of all calls and streams: their names and what they carry.

use std::{collections::BTreeMap, fmt::Write};

use ts_rs::{Config, TS, TypeVisitor};

#[allow(clippy::wildcard_imports, reason = "the table names every type there is")]
use super::*;

/// A row of the table: its name, its doc line and its types in TypeScript.
#[derive(Clone, Copy)]
pub struct Row {
    /// Name on the wire: subject, dot, verb.
    pub name: &'static str,
    /// What it does.
    pub about: &'static str,
    /// Its types, in the order parameters, result (a call) or parameters, event, input (a stream).
    types: fn(&mut Declarations) -> Vec<String>,
}

macro_rules! rows {
    ($($name:literal: $($kind:ty),+ ; $about:literal)*) => {
        &[$(Row { name: $name, about: $about, types: |declarations| vec![$(declarations.name_of::<$kind>()),+] }),*]
    };
}

/// Every call: parameters, result.
#[rustfmt::skip]
pub const CALLS: &[Row] = rows! {
    "app.information": Empty, Information; "About Rorqual here."
    "app.finishFirstRun": Empty, Empty; "The first run is over and is not shown again."

    "container.start": ContainerTarget, Empty; "Starts a container."
    "container.stop": ContainerTarget, Empty; "Stops a container: SIGTERM, then SIGKILL after its time-out."
    "container.restart": ContainerTarget, Empty; "Stops and starts a container."
    "container.kill": ContainerTarget, Empty; "Ends a container at once."
    "container.pause": ContainerTarget, Empty; "Freezes a container."
    "container.unpause": ContainerTarget, Empty; "Lets a frozen container go on."
    "container.remove": ContainerRemove, Empty; "Removes a container."
    "container.rename": ContainerRename, Empty; "Gives a container another name."
    "container.commit": ContainerCommit, Created; "Makes an image of a container."
    "container.inspect": ContainerTarget, ContainerDetail; "All about a container."
    "container.processes": ContainerTarget, Processes; "What runs in a container."
    "container.changes": ContainerTarget, Vec<FileChange>; "What a container changed of its image."
    "containers.prune": Empty, Pruned; "Removes all containers that do not run."

    "image.inspect": ImageTarget, ImageDetail; "All about an image."
    "image.tag": ImageTag, Empty; "Gives an image another name."
    "image.remove": ImageRemove, Vec<String>; "Removes an image or one of its names; answers what was removed."
    "images.prune": ImagesPrune, Pruned; "Removes images nobody uses."
    "images.search": ImageSearch, Vec<ImageFound>; "Looks for images in a registry."

    "volume.create": VolumeCreate, Volume; "Makes a volume."
    "volume.remove": VolumeTarget, Empty; "Removes a volume and what is in it."
    "volumes.prune": VolumesPrune, Pruned; "Removes volumes nobody mounts."

    "network.create": NetworkCreate, Created; "Makes a network."
    "network.remove": NetworkTarget, Empty; "Removes a network."
    "network.connect": NetworkMembership, Empty; "Puts a container in a network."
    "network.disconnect": NetworkMembership, Empty; "Takes a container out of a network."
    "networks.prune": Empty, Pruned; "Removes networks nobody is in."

    "files.list": FileTarget, FileList; "What is in a directory."
    "files.remove": FileTarget, Empty; "Removes a file, or a directory with all in it."
    "files.createFolder": FileTarget, Empty; "Makes a directory."
    "files.move": FileMove, Empty; "Moves or renames."
    "host.folder": HostFolderTarget, HostFolder; "What is in a folder of this computer."

    "builds.history": Empty, Vec<BuildRecord>; "Builds, the newest first."
    "builds.inspect": BuildTarget, BuildDetail; "A build with its output."
    "builds.remove": BuildTarget, Empty; "Takes a build out of the history."
    "builds.pruneCache": Empty, Pruned; "Removes build cache nobody uses."

    "registries.list": Empty, Vec<Registry>; "Registries the user is logged in at."
    "registry.login": RegistryLogin, Empty; "Logs in."
    "registry.logout": RegistryTarget, Empty; "Logs out."

    "system.usage": Empty, DiskUsage; "What the engine keeps, by kind."
    "settings.get": Empty, Settings; "All settings."
    "settings.change": SettingChange, SettingChanged; "Changes one setting."
    "diagnose.checks": Empty, Vec<Check>; "Makes every check."
    "diagnose.resetPlans": Empty, Vec<ResetPlan>; "Levels of reset and what each would delete now."
};

/// Every stream: parameters, event, input. Those marked "bytes" carry raw bytes besides.
#[rustfmt::skip]
pub const STREAMS: &[Row] = rows! {
    "machines": Empty, MachinesEvent, Never; "Machines and whether the daemon answers."
    "machine.start": MachineStart, Step, Never; "Starts the daemon if need be, then a machine, by step."
    "machine.stop": MachineStop, Step, Never; "Stops a machine by step."
    "machine.restart": MachineTarget, Step, Never; "Stops and starts a machine by step."
    "machine.suspend": MachineTarget, Step, Never; "Saves a machine by step."
    "machine.samples": MachineTarget, MachineSample, Never; "What a machine uses, about once a second."
    "machine.log": MachineLog, Never, Never; "Follows a log. Bytes from the engine."
    "machine.shell": MachineShell, TerminalEvent, TerminalInput; "A shell in a machine. Bytes both ways."

    "containers": Empty, ListEvent<Container>, Never; "All containers, and each change."
    "containers.samples": SampleTargets, ContainerSamples, Never; "What containers use, about once a second."
    "container.run": ContainerRun, ContainerRunEvent, Never; "Pulls if need be, makes and starts a container."
    "container.logs": ContainerLogs, LogLines, Never; "A container's log."
    "container.terminal": ContainerTerminal, TerminalEvent, TerminalInput; "A terminal in a container. Bytes both ways."

    "images": Empty, ListEvent<Image>, Never; "All images, and each change."
    "image.pull": ImagePull, PullProgress, Never; "Pulls an image."
    "image.push": ImageTarget, PullProgress, Never; "Pushes an image."
    "image.save": ImageSave, Download, Never; "Images as a tar. Bytes from the engine."
    "image.load": Empty, ImageLoaded, UploadInput; "Reads images of a tar. Bytes to the engine."

    "volumes": Empty, ListEvent<Volume>, Never; "All volumes, and each change."
    "networks": Empty, ListEvent<Network>, Never; "All networks, and each change."

    "files.read": FileTarget, Download, Never; "A file, or a directory as a tar. Bytes from the engine."
    "files.write": FileWrite, Empty, UploadInput; "Writes a file. Bytes to the engine."

    "build.run": BuildRun, BuildEvent, Never; "Builds an image."
    "engine.events": Empty, EngineEvent, Never; "What happens in the engine."
    "diagnose.bundle": Empty, Download, Never; "All that helps to find a fault, secrets removed, as a zip. Bytes from the engine."
    "diagnose.reset": Reset, Step, Never; "Carries a reset out, by step."
};

/// TypeScript of the table and of all types it names: the interfaces `Calls` and `Streams`, then the types by name.
pub fn typescript() -> String {
    let mut declarations = Declarations { config: Config::default(), types: BTreeMap::new() };
    let mut text = String::from("// Generated from app/engine/src/backend/contract by `make types`; do not edit.\n");
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

/// The types met so far and how TypeScript declares them, by name.
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
        // Of a generic type each use names others.
        T::visit_generics(self);
        // What TypeScript has itself (strings, arrays) has no place of its own to be declared.
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
