// Generated from app/backend/src/contract by `make types`; do not edit.

export interface Calls {
  /** About Rorqual here. */
  "app.information": { params: Empty; result: Information };
  /** The first run is over and is not shown again. */
  "app.finishFirstRun": { params: Empty; result: Empty };
  /** Starts a container. */
  "container.start": { params: ContainerTarget; result: Empty };
  /** Stops a container: SIGTERM, then SIGKILL after its time-out. */
  "container.stop": { params: ContainerTarget; result: Empty };
  /** Stops and starts a container. */
  "container.restart": { params: ContainerTarget; result: Empty };
  /** Ends a container at once. */
  "container.kill": { params: ContainerTarget; result: Empty };
  /** Freezes a container. */
  "container.pause": { params: ContainerTarget; result: Empty };
  /** Lets a frozen container go on. */
  "container.unpause": { params: ContainerTarget; result: Empty };
  /** Removes a container. */
  "container.remove": { params: ContainerRemove; result: Empty };
  /** Gives a container another name. */
  "container.rename": { params: ContainerRename; result: Empty };
  /** Makes an image of a container. */
  "container.commit": { params: ContainerCommit; result: Created };
  /** All about a container. */
  "container.inspect": { params: ContainerTarget; result: ContainerDetail };
  /** What runs in a container. */
  "container.processes": { params: ContainerTarget; result: Processes };
  /** What a container changed of its image. */
  "container.changes": { params: ContainerTarget; result: Array<FileChange> };
  /** Removes all containers that do not run. */
  "containers.prune": { params: Empty; result: Pruned };
  /** All about an image. */
  "image.inspect": { params: ImageTarget; result: ImageDetail };
  /** Gives an image another name. */
  "image.tag": { params: ImageTag; result: Empty };
  /** Removes an image or one of its names; answers what was removed. */
  "image.remove": { params: ImageRemove; result: Array<string> };
  /** Removes images nobody uses. */
  "images.prune": { params: ImagesPrune; result: Pruned };
  /** Looks for images in a registry. */
  "images.search": { params: ImageSearch; result: Array<ImageFound> };
  /** Makes a volume. */
  "volume.create": { params: VolumeCreate; result: Volume };
  /** Removes a volume and what is in it. */
  "volume.remove": { params: VolumeTarget; result: Empty };
  /** Removes volumes nobody mounts. */
  "volumes.prune": { params: VolumesPrune; result: Pruned };
  /** Makes a network. */
  "network.create": { params: NetworkCreate; result: Created };
  /** Removes a network. */
  "network.remove": { params: NetworkTarget; result: Empty };
  /** Puts a container in a network. */
  "network.connect": { params: NetworkMembership; result: Empty };
  /** Takes a container out of a network. */
  "network.disconnect": { params: NetworkMembership; result: Empty };
  /** Removes networks nobody is in. */
  "networks.prune": { params: Empty; result: Pruned };
  /** What is in a directory. */
  "files.list": { params: FileTarget; result: FileList };
  /** Removes a file, or a directory with all in it. */
  "files.remove": { params: FileTarget; result: Empty };
  /** Makes a directory. */
  "files.createFolder": { params: FileTarget; result: Empty };
  /** Moves or renames. */
  "files.move": { params: FileMove; result: Empty };
  /** What is in a folder of this computer. */
  "host.folder": { params: HostFolderTarget; result: HostFolder };
  /** Builds, the newest first. */
  "builds.history": { params: Empty; result: Array<BuildRecord> };
  /** A build with its output. */
  "builds.inspect": { params: BuildTarget; result: BuildDetail };
  /** Takes a build out of the history. */
  "builds.remove": { params: BuildTarget; result: Empty };
  /** Removes build cache nobody uses. */
  "builds.pruneCache": { params: Empty; result: Pruned };
  /** Registries the user is logged in at. */
  "registries.list": { params: Empty; result: Array<Registry> };
  /** Logs in. */
  "registry.login": { params: RegistryLogin; result: Empty };
  /** Logs out. */
  "registry.logout": { params: RegistryTarget; result: Empty };
  /** What the engine keeps, by kind. */
  "system.usage": { params: Empty; result: DiskUsage };
  /** All settings. */
  "settings.get": { params: Empty; result: Settings };
  /** Changes one setting, and returns it as it is then. */
  "settings.change": { params: SettingChange; result: Setting };
  /** Makes every check. */
  "diagnose.checks": { params: Empty; result: Array<Check> };
  /** Levels of reset and what each would delete now. */
  "diagnose.resetPlans": { params: Empty; result: Array<ResetPlan> };
}

export interface Streams {
  /** Machines and whether the daemon answers. */
  "machines": { params: Empty; event: MachinesEvent; input: Never };
  /** Starts the daemon if need be, then a machine, by step. */
  "machine.start": { params: MachineStart; event: Step; input: Never };
  /** Stops a machine by step. */
  "machine.stop": { params: MachineStop; event: Step; input: Never };
  /** Stops and starts a machine by step. */
  "machine.restart": { params: MachineTarget; event: Step; input: Never };
  /** Saves a machine by step. */
  "machine.suspend": { params: MachineTarget; event: Step; input: Never };
  /** What a machine uses, about once a second. */
  "machine.samples": { params: MachineTarget; event: MachineSample; input: Never };
  /** Follows a log. Bytes from the engine. */
  "machine.log": { params: MachineLog; event: Never; input: Never };
  /** A shell in a machine. Bytes both ways. */
  "machine.shell": { params: MachineShell; event: TerminalEvent; input: TerminalInput };
  /** All containers, and each change. */
  "containers": { params: Empty; event: ListEvent<Container>; input: Never };
  /** What containers use, about once a second. */
  "containers.samples": { params: SampleTargets; event: ContainerSamples; input: Never };
  /** Pulls if need be, makes and starts a container. */
  "container.run": { params: ContainerRun; event: ContainerRunEvent; input: Never };
  /** A container's log. */
  "container.logs": { params: ContainerLogs; event: LogLines; input: Never };
  /** A terminal in a container. Bytes both ways. */
  "container.terminal": { params: ContainerTerminal; event: TerminalEvent; input: TerminalInput };
  /** All images, and each change. */
  "images": { params: Empty; event: ListEvent<Image>; input: Never };
  /** Pulls an image. */
  "image.pull": { params: ImagePull; event: PullProgress; input: Never };
  /** Pushes an image. */
  "image.push": { params: ImageTarget; event: PullProgress; input: Never };
  /** Images as a tar. Bytes from the engine. */
  "image.save": { params: ImageSave; event: Download; input: Never };
  /** Reads images of a tar. Bytes to the engine. */
  "image.load": { params: Empty; event: ImageLoaded; input: UploadInput };
  /** All volumes, and each change. */
  "volumes": { params: Empty; event: ListEvent<Volume>; input: Never };
  /** All networks, and each change. */
  "networks": { params: Empty; event: ListEvent<Network>; input: Never };
  /** A file, or a directory as a tar. Bytes from the engine. */
  "files.read": { params: FileTarget; event: Download; input: Never };
  /** Writes a file. Bytes to the engine. */
  "files.write": { params: FileWrite; event: Empty; input: UploadInput };
  /** Builds an image. */
  "build.run": { params: BuildRun; event: BuildEvent; input: Never };
  /** What happens in the engine. */
  "engine.events": { params: Empty; event: EngineEvent; input: Never };
  /** All that helps to find a fault, secrets removed, as a zip. Bytes from the engine. */
  "diagnose.bundle": { params: Empty; event: Download; input: Never };
  /** Carries a reset out, by step. */
  "diagnose.reset": { params: Reset; event: Step; input: Never };
}

/**
 * A build of the history with its output.
 */
export type BuildDetail = { 
/**
 * The build.
 */
record: BuildRecord, 
/**
 * Output by step.
 */
outputs: Array<BuildOutput>, 
/**
 * The Dockerfile as it was.
 */
dockerfile: string, };

/**
 * What a build tells.
 */
export type BuildEvent = { "kind": "step", 
/**
 * The step, whole.
 */
step: BuildStep, } | { "kind": "output", 
/**
 * The step.
 */
id: string, 
/**
 * Text with its line ends and escape sequences.
 */
text: string, } | { "kind": "finished", 
/**
 * As in the history.
 */
record: BuildRecord, };

/**
 * How a build ended.
 */
export type BuildOutcome = { "kind": "succeeded", 
/**
 * Identifier of the image.
 */
image: string, } | { "kind": "failed", 
/**
 * BuildKit's words.
 */
message: string, 
/**
 * Line of the Dockerfile, from 1, if it is the Dockerfile's fault.
 */
line: number | null, 
/**
 * The Dockerfile as it was.
 */
dockerfile: string | null, } | { "kind": "canceled" };

/**
 * Output of one step.
 */
export type BuildOutput = { 
/**
 * The step.
 */
step: string, 
/**
 * Text.
 */
text: string, };

/**
 * A build that is over, or under way.
 */
export type BuildRecord = { 
/**
 * Identifier.
 */
id: string, 
/**
 * What was asked for.
 */
request: BuildRun, 
/**
 * When it began.
 */
started: Timestamp, 
/**
 * How long it took.
 */
took: Milliseconds, 
/**
 * How it ended.
 */
outcome: BuildOutcome, 
/**
 * All steps as they were at the end.
 */
steps: Array<BuildStep>, };

/**
 * Builds an image of a folder of this computer. Closing the stream cancels.
 */
export type BuildRun = { 
/**
 * The folder, a full path.
 */
folder: string, 
/**
 * The Dockerfile, relative to the folder; absent is `Dockerfile`.
 */
dockerfile: string | null, 
/**
 * `repository:tag`s.
 */
tags: Array<string>, 
/**
 * Stage to build; absent is the last.
 */
target: string | null, 
/**
 * Build arguments.
 */
arguments: Array<NameValue>, 
/**
 * Use nothing built before.
 */
noCache: boolean, 
/**
 * Pull base images again.
 */
pull: boolean, };

/**
 * A step of a build.
 */
export type BuildStep = { 
/**
 * Stable within the build.
 */
id: string, 
/**
 * BuildKit's words: `[2/5] RUN make`.
 */
name: string, 
/**
 * What it does now.
 */
state: BuildStepState, 
/**
 * How long it took so far.
 */
took: Milliseconds, 
/**
 * What it says of its progress: `transferring context: 2.1 MB`.
 */
progress: string, 
/**
 * Why it failed.
 */
error: string | null, };

/**
 * What a step does now.
 */
export type BuildStepState = "waiting" | "running" | "cached" | "done" | "failed" | "canceled";

/**
 * Names a build of the history.
 */
export type BuildTarget = { 
/**
 * Identifier.
 */
id: string, };

/**
 * A number of bytes.
 */
export type Bytes = number;

/**
 * What a check found.
 */
export type Check = { 
/**
 * `kvm`, `uml`, `image`, `disk-space`, …
 */
id: string, 
/**
 * How bad.
 */
verdict: Verdict, 
/**
 * What was found.
 */
finding: string, 
/**
 * What to do; empty when nothing needs doing.
 */
fix: string, };

/**
 * Where a container stands in a compose project.
 */
export type ComposeMember = { 
/**
 * The project.
 */
project: string, 
/**
 * The service.
 */
service: string, 
/**
 * Folder of the project on this computer, if compose said so.
 */
folder: string | null, };

/**
 * A container as lists show it.
 */
export type Container = { 
/**
 * Full identifier.
 */
id: string, 
/**
 * Name without the slash.
 */
name: string, 
/**
 * Image as it was given.
 */
image: string, 
/**
 * Identifier of the image.
 */
imageId: string, 
/**
 * Command line as docker shows it.
 */
command: string, 
/**
 * When it was made.
 */
created: Timestamp, 
/**
 * When it last started; absent if never.
 */
started: Timestamp | null, 
/**
 * When it last ended; absent while it runs or if never.
 */
finished: Timestamp | null, 
/**
 * What it does now.
 */
state: ContainerState, 
/**
 * Exit status of its last run, once there was one.
 */
exitStatus: number | null, 
/**
 * Health, when it has a check.
 */
health: Health | null, 
/**
 * Ports, published or not.
 */
ports: Array<ContainerPort>, 
/**
 * Names of its networks.
 */
networks: Array<string>, 
/**
 * Names of the volumes it has mounted.
 */
volumes: Array<string>, 
/**
 * Compose's, when it belongs to a project.
 */
compose: ComposeMember | null, 
/**
 * Labels.
 */
labels: Array<NameValue>, };

/**
 * Makes an image of a container.
 */
export type ContainerCommit = { 
/**
 * Identifier or name.
 */
id: string, 
/**
 * `repository:tag` of the image.
 */
reference: string, 
/**
 * Message kept in the image's history.
 */
message: string, };

/**
 * All about one container.
 */
export type ContainerDetail = { 
/**
 * As in the list.
 */
container: Container, 
/**
 * Entry point and arguments.
 */
command: Array<string>, 
/**
 * Directory it starts in.
 */
workingDirectory: string, 
/**
 * User it runs as; empty is root.
 */
user: string, 
/**
 * Restart policy as docker writes it: `no`, `always`, `unless-stopped`, `on-failure:3`.
 */
restartPolicy: string, 
/**
 * Environment, in order.
 */
environment: Array<NameValue>, 
/**
 * Mounts.
 */
mounts: Array<Mount>, 
/**
 * Its addresses by network.
 */
endpoints: Array<ContainerEndpoint>, 
/**
 * The `docker run` that makes an equal one.
 */
runCommand: string, 
/**
 * The engine's own words.
 */
document: Document, };

/**
 * A container's place in a network.
 */
export type ContainerEndpoint = { 
/**
 * Name of the network.
 */
network: string, 
/**
 * Its address; empty while it does not run.
 */
address: string, 
/**
 * Its IPv6 address, if any.
 */
address6: string | null, 
/**
 * Other names it has there.
 */
aliases: Array<string>, };

/**
 * Follows a container's log.
 */
export type ContainerLogs = { 
/**
 * Identifier or name.
 */
id: string, 
/**
 * Lines from the end to begin with.
 */
tail: number, 
/**
 * Go on with what comes; else the stream ends after the last line.
 */
follow: boolean, 
/**
 * Only lines after this moment (to go on after a pause).
 */
since: Timestamp | null, };

/**
 * A port of a container.
 */
export type ContainerPort = { 
/**
 * `tcp`, `udp` or `sctp`.
 */
protocol: string, 
/**
 * In the container.
 */
containerPort: number, 
/**
 * On this computer, when published.
 */
hostPort: number | null, 
/**
 * The address on this computer, when published.
 */
hostAddress: string | null, };

/**
 * Removes a container.
 */
export type ContainerRemove = { 
/**
 * Identifier or name.
 */
id: string, 
/**
 * Kill it first if it runs.
 */
force: boolean, 
/**
 * Its anonymous volumes too.
 */
volumes: boolean, };

/**
 * Gives a container another name.
 */
export type ContainerRename = { 
/**
 * Identifier or name.
 */
id: string, 
/**
 * The new one.
 */
name: string, };

/**
 * A new container, as `docker run -d` takes it.
 */
export type ContainerRun = { 
/**
 * Image; pulled first when it is not there.
 */
image: string, 
/**
 * Name; absent means one that docker makes up.
 */
name: string | null, 
/**
 * As `-p` takes them: `8080:80`, `127.0.0.1:53:53/udp`.
 */
ports: Array<string>, 
/**
 * As `-v` takes them: `data:/var/lib/data`, `/src:/src:ro`.
 */
volumes: Array<string>, 
/**
 * Environment.
 */
environment: Array<NameValue>, 
/**
 * Command and arguments; empty means the image's.
 */
command: Array<string>, 
/**
 * Restart policy as docker writes it; absent is `no`.
 */
restart: string | null, 
/**
 * Network; absent is the default one.
 */
network: string | null, 
/**
 * Remove it when it ends.
 */
remove: boolean, 
/**
 * Give it a terminal and keep its input open (`-it`).
 */
interactive: boolean, 
/**
 * Platform, such as `linux/amd64`; absent is the machine's own.
 */
platform: string | null, };

/**
 * Progress of running a container.
 */
export type ContainerRunEvent = { "kind": "pulling", 
/**
 * How far.
 */
progress: PullProgress, } | { "kind": "created", 
/**
 * Identifier and warnings.
 */
created: Created, } | { "kind": "started", 
/**
 * Identifier.
 */
id: string, };

/**
 * What one container uses.
 */
export type ContainerSample = { 
/**
 * Identifier.
 */
id: string, 
/**
 * 100 is one processor busy.
 */
cpuPercent: number, 
/**
 * Without page cache.
 */
memory: Bytes, 
/**
 * What it may use at most; the machine's memory if it has no limit.
 */
memoryLimit: Bytes, 
/**
 * Since it started: bytes in from the network.
 */
networkReceived: Bytes, 
/**
 * Since it started: bytes out to the network.
 */
networkSent: Bytes, 
/**
 * Since it started: bytes from disk.
 */
diskRead: Bytes, 
/**
 * Since it started: bytes to disk.
 */
diskWritten: Bytes, 
/**
 * Number of processes and threads.
 */
processes: number, };

/**
 * What containers use now; about once a second, one event for all.
 */
export type ContainerSamples = { 
/**
 * When.
 */
at: Timestamp, 
/**
 * One for each container.
 */
samples: Array<ContainerSample>, };

/**
 * What a container does now.
 */
export type ContainerState = "created" | "running" | "paused" | "restarting" | "exited" | "removing" | "dead";

/**
 * Names a container.
 */
export type ContainerTarget = { 
/**
 * Identifier or name.
 */
id: string, };

/**
 * A terminal in a running container.
 */
export type ContainerTerminal = { 
/**
 * Identifier or name.
 */
id: string, 
/**
 * What to run; absent means the best shell that is there.
 */
command: Array<string> | null, 
/**
 * As whom; absent means the container's user.
 */
user: string | null, 
/**
 * Size of the terminal.
 */
size: TerminalSize, };

/**
 * Identifies something that was made.
 */
export type Created = { 
/**
 * Identifier.
 */
id: string, 
/**
 * What the engine warned of.
 */
warnings: Array<string>, };

/**
 * What the engine keeps, by kind.
 */
export type DiskUsage = { 
/**
 * Images.
 */
images: Usage, 
/**
 * Containers' own layers.
 */
containers: Usage, 
/**
 * Volumes.
 */
volumes: Usage, 
/**
 * Build cache.
 */
buildCache: Usage, };

/**
 * A JSON document as the Docker Engine gave it.
 */
export type Document = unknown;

/**
 * What a download is, before its bytes come.
 */
export type Download = { 
/**
 * A name for the file: `notes.txt`, or `etc.tar` for a directory.
 */
name: string, 
/**
 * How much will come; absent when not known before.
 */
size: Bytes | null, };

/**
 * No parameters, or nothing to answer: `{}`.
 */
export type Empty = Record<string, never>;

/**
 * Something that happened in the engine.
 */
export type EngineEvent = { 
/**
 * When.
 */
at: Timestamp, 
/**
 * `container`, `image`, `volume`, `network`, `builder`, …
 */
subject: string, 
/**
 * `start`, `die`, `pull`, …
 */
action: string, 
/**
 * Identifier or name of what it happened to.
 */
id: string, 
/**
 * More.
 */
attributes: Array<NameValue>, };

/**
 * Why something failed.
 */
export type Failure = { 
/**
 * Stable name for programs: `engine-not-running`, `not-found`, `conflict`, `config-invalid`, …
 */
code: string, 
/**
 * What failed, on what and why. No advice.
 */
message: string, 
/**
 * What to do about it, as an instruction; none where nothing sensible can be done.
 */
fix: string | null, };

/**
 * What a container changed of its image.
 */
export type FileChange = { 
/**
 * Full path.
 */
path: string, 
/**
 * How.
 */
change: FileChangeKind, };

/**
 * How a file differs from the image.
 */
export type FileChangeKind = "added" | "modified" | "deleted";

/**
 * Something in a directory.
 */
export type FileEntry = { 
/**
 * Name.
 */
name: string, 
/**
 * What it is.
 */
kind: FileKind, 
/**
 * Of a file.
 */
size: Bytes, 
/**
 * When it was changed.
 */
modified: Timestamp, 
/**
 * Permission bits, such as 0o644.
 */
mode: number, 
/**
 * Owner.
 */
user: number, 
/**
 * Group.
 */
group: number, 
/**
 * Where a link leads.
 */
link: string | null, };

/**
 * What something in a directory is.
 */
export type FileKind = "file" | "directory" | "link" | "other";

/**
 * A directory's content.
 */
export type FileList = { 
/**
 * Sorted: directories first, then by name.
 */
entries: Array<FileEntry>, 
/**
 * There were more than 10,000.
 */
truncated: boolean, };

/**
 * Moves a file within its place.
 */
export type FileMove = { 
/**
 * What.
 */
target: FileTarget, 
/**
 * Full path it gets; nothing may be there.
 */
path: string, };

/**
 * Whose files.
 */
export type FilePlace = { "kind": "container", 
/**
 * Identifier or name.
 */
id: string, } | { "kind": "volume", 
/**
 * Name.
 */
name: string, };

/**
 * A file or directory there.
 */
export type FileTarget = { 
/**
 * Whose.
 */
place: FilePlace, 
/**
 * Full path, `/` is the top.
 */
path: string, };

/**
 * Writes a file: its content goes as bytes, then `finish`. What was there is replaced only when all of it arrived.
 */
export type FileWrite = { 
/**
 * Which file.
 */
target: FileTarget, 
/**
 * How much will come.
 */
size: Bytes, 
/**
 * Permission bits of a new file; absent is 0o644, or as they were.
 */
mode: number | null, };

/**
 * What its health check says.
 */
export type Health = "starting" | "healthy" | "unhealthy";

/**
 * What is in a folder of this computer.
 */
export type HostFolder = { 
/**
 * Full path.
 */
path: string, 
/**
 * The folder it is in; absent at the top.
 */
parent: string | null, 
/**
 * Names of folders in it, hidden ones left out.
 */
folders: Array<string>, 
/**
 * Names of Dockerfiles and compose files in it.
 */
recipes: Array<string>, };

/**
 * A folder of this computer (to choose one to build).
 */
export type HostFolderTarget = { 
/**
 * Full path; absent is the home directory.
 */
path: string | null, };

/**
 * An image as lists show it.
 */
export type Image = { 
/**
 * Identifier, `sha256:…`.
 */
id: string, 
/**
 * `repository:tag`s; empty for a dangling image.
 */
tags: Array<string>, 
/**
 * `repository@sha256:…`s.
 */
digests: Array<string>, 
/**
 * When it was made.
 */
created: Timestamp, 
/**
 * All its layers.
 */
size: Bytes, 
/**
 * Layers that other images have too; absent until it is known.
 */
shared: Bytes | null, 
/**
 * Identifiers of containers made of it.
 */
usedBy: Array<string>, 
/**
 * Labels.
 */
labels: Array<NameValue>, };

/**
 * All about one image.
 */
export type ImageDetail = { 
/**
 * As in the list.
 */
image: Image, 
/**
 * `amd64`, `arm64/v8`, …
 */
architecture: string, 
/**
 * `linux`.
 */
operatingSystem: string, 
/**
 * Entry point and command.
 */
command: Array<string>, 
/**
 * Environment.
 */
environment: Array<NameValue>, 
/**
 * Ports it says it listens on: `80/tcp`.
 */
exposedPorts: Array<string>, 
/**
 * Volumes it declares.
 */
volumes: Array<string>, 
/**
 * Directory it starts in.
 */
workingDirectory: string, 
/**
 * User it runs as; empty is root.
 */
user: string, 
/**
 * History, the newest first.
 */
layers: Array<Layer>, 
/**
 * The engine's own words.
 */
document: Document, };

/**
 * What a registry found.
 */
export type ImageFound = { 
/**
 * What to pull.
 */
reference: string, 
/**
 * Description.
 */
description: string, 
/**
 * Stars people gave it; absent when the registry has none.
 */
stars: number | null, 
/**
 * The registry's own.
 */
official: boolean, };

/**
 * What was read of a file of images.
 */
export type ImageLoaded = { 
/**
 * The engine's words, a line each.
 */
messages: Array<string>, };

/**
 * Pulls an image.
 */
export type ImagePull = { 
/**
 * `repository`, `repository:tag` or `repository@sha256:…`.
 */
reference: string, 
/**
 * Such as `linux/amd64`; absent is the machine's own.
 */
platform: string | null, };

/**
 * Removes an image.
 */
export type ImageRemove = { 
/**
 * Identifier or reference; a reference only takes that name away when there are more.
 */
image: string, 
/**
 * Even if stopped containers use it.
 */
force: boolean, };

/**
 * Writes images to a file, as bytes of a tar.
 */
export type ImageSave = { 
/**
 * Identifiers or references.
 */
images: Array<string>, };

/**
 * Looks for images in a registry.
 */
export type ImageSearch = { 
/**
 * Words; `host:port/words` for a registry that is not the default one.
 */
term: string, };

/**
 * Gives an image another name.
 */
export type ImageTag = { 
/**
 * Identifier or reference.
 */
image: string, 
/**
 * `repository:tag`.
 */
reference: string, };

/**
 * Names an image.
 */
export type ImageTarget = { 
/**
 * Identifier or reference.
 */
image: string, };

/**
 * Removes images that nobody uses.
 */
export type ImagesPrune = { 
/**
 * All that no container uses; else only those without a name.
 */
all: boolean, };

/**
 * About Rorqual here.
 */
export type Information = { 
/**
 * Version of Rorqual.
 */
version: string, 
/**
 * What the page runs in.
 */
platform: Platform, 
/**
 * The state directory.
 */
home: string, 
/**
 * CPUs of this computer.
 */
cpus: number, 
/**
 * Memory of this computer.
 */
memory: Bytes, 
/**
 * Nobody has finished the first run yet.
 */
firstRun: boolean, };

/**
 * An instruction of an image, and what it added.
 */
export type Layer = { 
/**
 * Identifier, if the engine still has it.
 */
id: string | null, 
/**
 * The Dockerfile's line, tidied: `RUN apk add curl`.
 */
instruction: string, 
/**
 * When.
 */
created: Timestamp, 
/**
 * What it added; zero for one that only sets something.
 */
size: Bytes, 
/**
 * Comment.
 */
comment: string, };

/**
 * How far a layer is.
 */
export type LayerProgress = { 
/**
 * Short identifier.
 */
id: string, 
/**
 * The engine's words: `Downloading`, `Extracting`, `Pull complete`, `Already exists`.
 */
status: string, 
/**
 * Done of this status.
 */
done: Bytes, 
/**
 * All of it; zero when not known.
 */
total: Bytes, 
/**
 * Nothing more will happen to it.
 */
complete: boolean, };

/**
 * A list that is pushed: all of it first, then what changed.
 */
export type ListEvent<T> = { "kind": "all", 
/**
 * Every item.
 */
items: Array<T>, } | { "kind": "changes", 
/**
 * New or changed items, whole.
 */
changed: Array<T>, 
/**
 * Identifiers.
 */
removed: Array<string>, };

/**
 * A line of a log.
 */
export type LogLine = { 
/**
 * When it was written; absent when the log driver does not say.
 */
at: Timestamp | null, 
/**
 * It came from standard error.
 */
error: boolean, 
/**
 * Text without the line end, escape sequences kept; not UTF-8 is replaced; at most 16 KiB a piece.
 */
text: string, };

/**
 * Lines of a log, many at once when they come fast.
 */
export type LogLines = { 
/**
 * In order.
 */
lines: Array<LogLine>, 
/**
 * Lines left out before these because the page could not follow.
 */
skipped: number, };

/**
 * One machine.
 */
export type Machine = { 
/**
 * Its name.
 */
name: string, 
/**
 * What it does now.
 */
state: MachineState, 
/**
 * More about the state, such as why it failed; often empty.
 */
message: string, 
/**
 * What to do about that.
 */
fix: string | null, 
/**
 * `kvm` or `uml`; empty while stopped.
 */
accelerator: string, 
/**
 * Why that one.
 */
acceleratorReason: string, 
/**
 * Virtual CPUs.
 */
cpus: number, 
/**
 * Its memory.
 */
memory: Bytes, 
/**
 * The size of its disk as the guest sees it.
 */
disk: Bytes, 
/**
 * What the disk takes on this computer.
 */
diskAllocated: Bytes, 
/**
 * From the request to start until the engine answered; absent while it has not.
 */
readyAfter: Milliseconds | null, 
/**
 * Since the machine started.
 */
uptime: Milliseconds, 
/**
 * The socket docker clients connect to.
 */
dockerSocket: string, 
/**
 * Version of the guest image.
 */
imageVersion: string, 
/**
 * Release of the guest's kernel.
 */
kernelRelease: string, 
/**
 * Published ports.
 */
ports: Array<PublishedPort>, };

/**
 * A machine's log, as bytes.
 */
export type MachineLog = { 
/**
 * Its name.
 */
machine: string, 
/**
 * `kernel` (the console), `agent`, `containerd`, `dockerd`, `vmm` or `daemon`.
 */
source: string, 
/**
 * Lines from the end.
 */
tail: number, };

/**
 * What a machine uses now; about once a second.
 */
export type MachineSample = { 
/**
 * Of all its processors together: 100 is one processor busy.
 */
cpuPercent: number, 
/**
 * Used by programs in the guest.
 */
memoryUsed: Bytes, 
/**
 * Page cache of the guest.
 */
memoryCached: Bytes, 
/**
 * All of the guest's memory.
 */
memoryTotal: Bytes, 
/**
 * What the machine takes of this computer's memory.
 */
memoryResident: Bytes, 
/**
 * Disk: used in the guest's file system.
 */
diskUsed: Bytes, 
/**
 * What the disk takes on this computer.
 */
diskAllocated: Bytes, 
/**
 * Largest the disk can become.
 */
diskTotal: Bytes, };

/**
 * A shell in a machine, as bytes both ways.
 */
export type MachineShell = { 
/**
 * Its name.
 */
machine: string, 
/**
 * Size of the terminal.
 */
size: TerminalSize, };

/**
 * Starts a machine.
 */
export type MachineStart = { 
/**
 * Its name.
 */
machine: string, 
/**
 * Give a saved state up and boot.
 */
cold: boolean, };

/**
 * What a machine does now.
 */
export type MachineState = "stopped" | "starting" | "running" | "degraded" | "stopping" | "failed" | "suspending" | "suspended";

/**
 * Stops a machine.
 */
export type MachineStop = { 
/**
 * Its name.
 */
machine: string, 
/**
 * At once, as if its power was cut.
 */
force: boolean, };

/**
 * Names a machine.
 */
export type MachineTarget = { 
/**
 * Its name; `default` is always there.
 */
machine: string, };

/**
 * The stream `machines`.
 */
export type MachinesEvent = { "kind": "machines", 
/**
 * Every machine.
 */
machines: Array<Machine>, } | { "kind": "unreachable", 
/**
 * Why.
 */
failure: Failure, };

/**
 * A span of time in milliseconds.
 */
export type Milliseconds = number;

/**
 * Something mounted in a container.
 */
export type Mount = { 
/**
 * `volume`, `bind`, `tmpfs`, …
 */
kind: string, 
/**
 * Volume's name or folder.
 */
source: string, 
/**
 * Where in the container.
 */
target: string, 
/**
 * It may be written to.
 */
writable: boolean, };

/**
 * A name and a value: a label, a build argument, an environment variable.
 */
export type NameValue = { 
/**
 * Name.
 */
name: string, 
/**
 * Value.
 */
value: string, };

/**
 * A network.
 */
export type Network = { 
/**
 * Full identifier.
 */
id: string, 
/**
 * Name.
 */
name: string, 
/**
 * `bridge`, `host`, `none`, …
 */
driver: string, 
/**
 * When it was made.
 */
created: Timestamp | null, 
/**
 * Docker's own (`bridge`, `host`, `none`): cannot be removed.
 */
builtIn: boolean, 
/**
 * Nothing outside it is reached.
 */
internal: boolean, 
/**
 * Containers have IPv6 in it.
 */
ipv6: boolean, 
/**
 * Address ranges.
 */
subnets: Array<Subnet>, 
/**
 * Who is in it.
 */
members: Array<NetworkMember>, 
/**
 * Compose's project, if it belongs to one.
 */
project: string | null, 
/**
 * Labels.
 */
labels: Array<NameValue>, };

/**
 * Makes a network.
 */
export type NetworkCreate = { 
/**
 * Name.
 */
name: string, 
/**
 * Address range; absent means docker chooses.
 */
subnet: string | null, 
/**
 * Gateway; absent means docker chooses.
 */
gateway: string | null, 
/**
 * Nothing outside it is reached.
 */
internal: boolean, 
/**
 * With IPv6.
 */
ipv6: boolean, };

/**
 * A container in a network.
 */
export type NetworkMember = { 
/**
 * Identifier of the container.
 */
container: string, 
/**
 * Its name.
 */
name: string, 
/**
 * Its addresses there; empty while it does not run.
 */
addresses: Array<string>, };

/**
 * Puts a container in a network, or takes it out.
 */
export type NetworkMembership = { 
/**
 * The network.
 */
network: string, 
/**
 * The container.
 */
container: string, };

/**
 * Names a network.
 */
export type NetworkTarget = { 
/**
 * Identifier or name.
 */
id: string, };

/**
 * A value no stream of its kind ever sends or takes.
 */
export type Never = never;

/**
 * What the page runs in.
 */
export type Platform = "desktop" | "web";

/**
 * Which processes run in a container.
 */
export type Processes = { 
/**
 * Column titles, such as `PID`.
 */
titles: Array<string>, 
/**
 * A row for each process.
 */
rows: Array<Array<string>>, };

/**
 * What a prune removed.
 */
export type Pruned = { 
/**
 * Identifiers or names.
 */
removed: Array<string>, 
/**
 * What that gave back.
 */
reclaimed: Bytes, };

/**
 * A port of a container that listens on this computer, or should.
 */
export type PublishedPort = { 
/**
 * `tcp` or `udp`.
 */
protocol: string, 
/**
 * The address it listens on.
 */
hostAddress: string, 
/**
 * The port it listens on.
 */
hostPort: number, 
/**
 * Address of the container.
 */
containerAddress: string, 
/**
 * Port of the container.
 */
containerPort: number, 
/**
 * Why it does not listen; empty when it does.
 */
error: string, 
/**
 * What to do about that.
 */
fix: string | null, };

/**
 * How far a pull or push is. Every event tells all layers.
 */
export type PullProgress = { 
/**
 * Layers in the order the engine told of them.
 */
layers: Array<LayerProgress>, 
/**
 * The engine's last word on the whole, such as `Status: Downloaded newer image`.
 */
status: string, };

/**
 * A registry the user is logged in at.
 */
export type Registry = { 
/**
 * `host` or `host:port` as docker keeps it.
 */
host: string, 
/**
 * As whom; empty when the credential store does not say.
 */
user: string, 
/**
 * Where the password is kept: `config.json`, or the name of a credential store.
 */
store: string, };

/**
 * Logs in. The password goes to docker's credential store and is kept nowhere else.
 */
export type RegistryLogin = { 
/**
 * `host` or `host:port`; empty is docker's default registry.
 */
host: string, 
/**
 * As whom.
 */
user: string, 
/**
 * Password or token.
 */
password: string, };

/**
 * Names a registry.
 */
export type RegistryTarget = { 
/**
 * As in [`Registry`].
 */
host: string, };

/**
 * Carries a reset out.
 */
export type Reset = { 
/**
 * Which.
 */
level: ResetLevel, 
/**
 * The user has read what is deleted: for `data` and `factory` this must be the word `delete`.
 */
confirmation: string, };

/**
 * How much a reset takes away.
 */
export type ResetLevel = "restart" | "prune" | "data" | "factory";

/**
 * A level of reset, with what it would do here and now.
 */
export type ResetPlan = { 
/**
 * Which.
 */
level: ResetLevel, 
/**
 * What is deleted, a line each: `12 containers`, `3 volumes (1.2 GB)`.
 */
deletes: Array<string>, 
/**
 * What stays.
 */
keeps: Array<string>, };

/**
 * Which containers are to be sampled.
 */
export type SampleTargets = { 
/**
 * Identifiers; absent means all that run, as they come and go.
 */
ids: Array<string> | null, };

/**
 * One setting.
 */
export type Setting = { 
/**
 * Identifier of the file.
 */
file: string, 
/**
 * Full key: `network.host_access`.
 */
key: string, 
/**
 * Heading it stands under.
 */
section: string, 
/**
 * Short title.
 */
title: string, 
/**
 * What it does, in one or more sentences. Commands and keys stand in backticks.
 */
description: string, 
/**
 * The values it takes.
 */
kind: SettingKind, 
/**
 * Value in the file; the default if the file has none.
 */
value: SettingValue, 
/**
 * Value if the file has none.
 */
default: SettingValue, 
/**
 * When a change takes effect.
 */
takesEffect: TakesEffect, 
/**
 * The same as a sentence. Commands stand in backticks.
 */
takesEffectNote: string, 
/**
 * The daemon or a machine still runs with another value.
 */
waits: boolean, };

/**
 * Changes one setting. Comments and other keys of the file stay as they are.
 */
export type SettingChange = { 
/**
 * Identifier of the file.
 */
file: string, 
/**
 * Full key.
 */
key: string, 
/**
 * New value; without it the key is removed and the default applies.
 */
value: SettingValue | null, };

/**
 * A word a setting takes.
 */
export type SettingChoice = { 
/**
 * As in the file.
 */
value: string, 
/**
 * For a person.
 */
title: string, };

/**
 * The values a setting takes.
 */
export type SettingKind = { "kind": "switch" } | { "kind": "choice", 
/**
 * The words and what they mean.
 */
choices: Array<SettingChoice>, } | { "kind": "integer", 
/**
 * Smallest.
 */
minimum: number, 
/**
 * Largest.
 */
maximum: number, 
/**
 * `MiB`, `GiB`, or empty.
 */
unit: string, } | { "kind": "text", 
/**
 * An example.
 */
placeholder: string, };

/**
 * The value of a setting.
 */
export type SettingValue = boolean | number | string;

/**
 * All settings.
 */
export type Settings = { 
/**
 * The files that hold them.
 */
files: Array<SettingsFile>, 
/**
 * In the order of the files.
 */
settings: Array<Setting>, };

/**
 * A settings file.
 */
export type SettingsFile = { 
/**
 * `config` or `machine/<name>`.
 */
id: string, 
/**
 * Full path.
 */
path: string, 
/**
 * Why it cannot be read; nothing in it can be changed until then.
 */
error: Failure | null, };

/**
 * A step of something long.
 */
export type Step = { 
/**
 * Stable name: `image`, `disk`, `machine`, `kernel`, `engine`, …
 */
step: string, 
/**
 * What is being done, for a person.
 */
message: string, 
/**
 * How long it took; only when it is over.
 */
took: Milliseconds | null, };

/**
 * An address range of a network.
 */
export type Subnet = { 
/**
 * `172.18.0.0/16`.
 */
subnet: string, 
/**
 * Gateway's address, if any.
 */
gateway: string | null, };

/**
 * When a changed setting takes effect.
 */
export type TakesEffect = "newMachine" | "machineStart" | "machineBoot" | "daemonStart" | "startCommand";

/**
 * What a terminal tells besides its output, which comes as bytes.
 */
export type TerminalEvent = { "kind": "started", 
/**
 * Such as `/bin/sh`.
 */
command: Array<string>, } | { "kind": "exited", 
/**
 * Exit status.
 */
status: number, };

/**
 * What the page tells a terminal besides what is typed, which goes as bytes.
 */
export type TerminalInput = { "kind": "resize", 
/**
 * The new size.
 */
size: TerminalSize, };

/**
 * Size of a terminal in characters.
 */
export type TerminalSize = { 
/**
 * Columns, at least 1.
 */
columns: number, 
/**
 * Rows, at least 1.
 */
rows: number, };

/**
 * Milliseconds since 1970-01-01 UTC.
 */
export type Timestamp = number;

/**
 * Ends what goes up.
 */
export type UploadInput = { "kind": "finish" };

/**
 * What one kind takes.
 */
export type Usage = { 
/**
 * How many.
 */
count: number, 
/**
 * All of them.
 */
size: Bytes, 
/**
 * What a prune would give back.
 */
reclaimable: Bytes, };

/**
 * How bad a finding is.
 */
export type Verdict = "ok" | "note" | "problem";

/**
 * A volume.
 */
export type Volume = { 
/**
 * Name.
 */
name: string, 
/**
 * Driver, mostly `local`.
 */
driver: string, 
/**
 * When it was made.
 */
created: Timestamp | null, 
/**
 * What is in it; absent until it is known.
 */
size: Bytes | null, 
/**
 * Identifiers of the containers that mount it.
 */
usedBy: Array<string>, 
/**
 * Docker made its name up.
 */
anonymous: boolean, 
/**
 * Compose's project, if it belongs to one.
 */
project: string | null, 
/**
 * Labels.
 */
labels: Array<NameValue>, 
/**
 * Where in the machine.
 */
mountpoint: string, };

/**
 * Makes a volume.
 */
export type VolumeCreate = { 
/**
 * Name.
 */
name: string, 
/**
 * Labels.
 */
labels: Array<NameValue>, };

/**
 * Names a volume.
 */
export type VolumeTarget = { 
/**
 * Name.
 */
name: string, };

/**
 * Removes volumes that no container mounts.
 */
export type VolumesPrune = { 
/**
 * Those with a name too; else only anonymous ones.
 */
all: boolean, };
