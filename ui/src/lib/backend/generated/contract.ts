// Generated from app/backend/src/contract by `make types`; do not edit.

export interface Calls {
  /** About this installation of Rorqual. */
  "app.information": { params: Empty; result: Information };
  /** Marks the first run as complete, so that it is not shown again. */
  "app.finishFirstRun": { params: Empty; result: Empty };
  /** Starts a container. */
  "container.start": { params: ContainerTarget; result: Empty };
  /** Stops a container: SIGTERM, then SIGKILL after its timeout. */
  "container.stop": { params: ContainerTarget; result: Empty };
  /** Restarts a container. */
  "container.restart": { params: ContainerTarget; result: Empty };
  /** Kills a container with SIGKILL. */
  "container.kill": { params: ContainerTarget; result: Empty };
  /** Pauses a container. */
  "container.pause": { params: ContainerTarget; result: Empty };
  /** Resumes a paused container. */
  "container.unpause": { params: ContainerTarget; result: Empty };
  /** Removes a container. */
  "container.remove": { params: ContainerRemove; result: Empty };
  /** Renames a container. */
  "container.rename": { params: ContainerRename; result: Empty };
  /** Creates an image from a container. */
  "container.commit": { params: ContainerCommit; result: Created };
  /** Details of a container. */
  "container.inspect": { params: ContainerTarget; result: ContainerDetail };
  /** Processes of a container. */
  "container.processes": { params: ContainerTarget; result: Processes };
  /** Differences between a container and its image. */
  "container.changes": { params: ContainerTarget; result: Array<FileChange> };
  /** Removes all containers that do not run. */
  "containers.prune": { params: Empty; result: Pruned };
  /** Details of an image. */
  "image.inspect": { params: ImageTarget; result: ImageDetail };
  /** Tags an image. */
  "image.tag": { params: ImageTag; result: Empty };
  /** Removes an image or one of its names; returns what was removed. */
  "image.remove": { params: ImageRemove; result: Array<string> };
  /** Removes unused images. */
  "images.prune": { params: ImagesPrune; result: Pruned };
  /** Searches a registry for images. */
  "images.search": { params: ImageSearch; result: Array<ImageFound> };
  /** Creates a volume. */
  "volume.create": { params: VolumeCreate; result: Volume };
  /** Removes a volume and its content. */
  "volume.remove": { params: VolumeTarget; result: Empty };
  /** Removes unused volumes. */
  "volumes.prune": { params: VolumesPrune; result: Pruned };
  /** Creates a network. */
  "network.create": { params: NetworkCreate; result: Created };
  /** Removes a network. */
  "network.remove": { params: NetworkTarget; result: Empty };
  /** Connects a container to a network. */
  "network.connect": { params: NetworkMembership; result: Empty };
  /** Disconnects a container from a network. */
  "network.disconnect": { params: NetworkMembership; result: Empty };
  /** Removes unused networks. */
  "networks.prune": { params: Empty; result: Pruned };
  /** Lists a directory. */
  "files.list": { params: FileTarget; result: FileList };
  /** Removes a file, or a directory with its content. */
  "files.remove": { params: FileTarget; result: Empty };
  /** Creates a directory. */
  "files.createFolder": { params: FileTarget; result: Empty };
  /** Moves or renames a file or directory. */
  "files.move": { params: FileMove; result: Empty };
  /** Lists a folder of this computer. */
  "host.folder": { params: HostFolderTarget; result: HostFolder };
  /** The history of builds, newest first. */
  "builds.history": { params: Empty; result: Array<BuildRecord> };
  /** A build of the history with its output. */
  "builds.inspect": { params: BuildTarget; result: BuildDetail };
  /** Removes a build from the history. */
  "builds.remove": { params: BuildTarget; result: Empty };
  /** Removes unused build cache. */
  "builds.pruneCache": { params: Empty; result: Pruned };
  /** Registries the user is logged in to. */
  "registries.list": { params: Empty; result: Array<Registry> };
  /** Logs in to a registry. */
  "registry.login": { params: RegistryLogin; result: Empty };
  /** Logs out of a registry. */
  "registry.logout": { params: RegistryTarget; result: Empty };
  /** Disk space used by the engine, by kind. */
  "system.usage": { params: Empty; result: DiskUsage };
  /** All settings. */
  "settings.get": { params: Empty; result: Settings };
  /** Changes one setting and returns its new state. */
  "settings.change": { params: SettingChange; result: Setting };
  /** Runs every check. */
  "diagnose.checks": { params: Empty; result: Array<Check> };
  /** The levels of reset and what each would delete now. */
  "diagnose.resetPlans": { params: Empty; result: Array<ResetPlan> };
}

export interface Streams {
  /** All machines, or why the daemon does not answer. */
  "machines": { params: Empty; event: MachinesEvent; input: Never };
  /** Starts a machine, and the daemon if it does not run. Reports each step. */
  "machine.start": { params: MachineStart; event: Step; input: Never };
  /** Stops a machine. Reports each step. */
  "machine.stop": { params: MachineStop; event: Step; input: Never };
  /** Restarts a machine. Reports each step. */
  "machine.restart": { params: MachineTarget; event: Step; input: Never };
  /** Suspends a machine. Reports each step. */
  "machine.suspend": { params: MachineTarget; event: Step; input: Never };
  /** Resource use of a machine, about once a second. */
  "machine.samples": { params: MachineTarget; event: MachineSample; input: Never };
  /** Follows a log. Bytes from the engine. */
  "machine.log": { params: MachineLog; event: Never; input: Never };
  /** A shell in a machine. Bytes both ways. */
  "machine.shell": { params: MachineShell; event: TerminalEvent; input: TerminalInput };
  /** All containers, and each change. */
  "containers": { params: Empty; event: ListEvent<Container>; input: Never };
  /** Resource use of containers, about once a second. */
  "containers.samples": { params: SampleTargets; event: ContainerSamples; input: Never };
  /** Creates and starts a container; pulls its image first if it is missing. */
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
  /** Saves images as a tar. Bytes from the engine. */
  "image.save": { params: ImageSave; event: Download; input: Never };
  /** Loads images from a tar. Bytes to the engine. */
  "image.load": { params: Empty; event: ImageLoaded; input: UploadInput };
  /** All volumes, and each change. */
  "volumes": { params: Empty; event: ListEvent<Volume>; input: Never };
  /** All networks, and each change. */
  "networks": { params: Empty; event: ListEvent<Network>; input: Never };
  /** Reads a file, or a directory as a tar. Bytes from the engine. */
  "files.read": { params: FileTarget; event: Download; input: Never };
  /** Writes a file. Bytes to the engine. */
  "files.write": { params: FileWrite; event: Empty; input: UploadInput };
  /** Builds an image. */
  "build.run": { params: BuildRun; event: BuildEvent; input: Never };
  /** Events of the engine. */
  "engine.events": { params: Empty; event: EngineEvent; input: Never };
  /** A zip for bug reports, without secrets. Bytes from the engine. */
  "diagnose.bundle": { params: Empty; event: Download; input: Never };
  /** Performs a reset. Reports each step. */
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
 * The Dockerfile at the time of the build.
 */
dockerfile: string, };

/**
 * An event of a build.
 */
export type BuildEvent = { "kind": "step", 
/**
 * The step, complete.
 */
step: BuildStep, } | { "kind": "output", 
/**
 * Identifier of the step.
 */
id: string, 
/**
 * Text with its line ends and escape sequences.
 */
text: string, } | { "kind": "finished", 
/**
 * The build as in the history.
 */
record: BuildRecord, };

/**
 * Outcome of a build.
 */
export type BuildOutcome = { "kind": "succeeded", 
/**
 * Identifier of the image.
 */
image: string, } | { "kind": "failed", 
/**
 * BuildKit's message.
 */
message: string, 
/**
 * Line of the Dockerfile at fault, counted from 1, if known.
 */
line: number | null, 
/**
 * The Dockerfile at the time of the build.
 */
dockerfile: string | null, } | { "kind": "canceled" };

/**
 * Output of one step.
 */
export type BuildOutput = { 
/**
 * Identifier of the step.
 */
step: string, 
/**
 * Text.
 */
text: string, };

/**
 * A build, finished or running.
 */
export type BuildRecord = { 
/**
 * Identifier.
 */
id: string, 
/**
 * The request.
 */
request: BuildRun, 
/**
 * Start time.
 */
started: Timestamp, 
/**
 * Duration.
 */
took: Milliseconds, 
/**
 * Outcome.
 */
outcome: BuildOutcome, 
/**
 * All steps in their final state.
 */
steps: Array<BuildStep>, };

/**
 * Builds an image from a folder of this computer. Closing the stream cancels the build.
 */
export type BuildRun = { 
/**
 * Full path of the folder.
 */
folder: string, 
/**
 * Path of the Dockerfile relative to the folder; absent means `Dockerfile`.
 */
dockerfile: string | null, 
/**
 * Tags of the image, `repository:tag`.
 */
tags: Array<string>, 
/**
 * Stage to build; absent means the last.
 */
target: string | null, 
/**
 * Build arguments.
 */
arguments: Array<NameValue>, 
/**
 * Ignores the build cache.
 */
noCache: boolean, 
/**
 * Pulls base images even if they exist.
 */
pull: boolean, };

/**
 * A step of a build.
 */
export type BuildStep = { 
/**
 * Identifier, stable within the build.
 */
id: string, 
/**
 * Name by BuildKit: `[2/5] RUN make`.
 */
name: string, 
/**
 * State.
 */
state: BuildStepState, 
/**
 * Duration so far.
 */
took: Milliseconds, 
/**
 * Latest progress message: `transferring context: 2.1 MB`.
 */
progress: string, 
/**
 * Why it failed.
 */
error: string | null, };

/**
 * State of a step.
 */
export type BuildStepState = "waiting" | "running" | "cached" | "done" | "failed" | "canceled";

/**
 * Identifies a build of the history.
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
 * The result of one check.
 */
export type Check = { 
/**
 * Identifier: `kvm`, `uml`, `image`, `disk-space`, …
 */
id: string, 
/**
 * Severity.
 */
verdict: Verdict, 
/**
 * The finding, as a sentence.
 */
finding: string, 
/**
 * Advice, as an instruction; empty when none is needed.
 */
fix: string, };

/**
 * A container's place in a Compose project.
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
 * Folder of the project on this computer, if Compose recorded it.
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
 * Name without the leading slash.
 */
name: string, 
/**
 * Image, as given at creation.
 */
image: string, 
/**
 * Identifier of the image.
 */
imageId: string, 
/**
 * Command line, as `docker ps` prints it.
 */
command: string, 
/**
 * Creation time.
 */
created: Timestamp, 
/**
 * Time of the last start; absent if it never started.
 */
started: Timestamp | null, 
/**
 * Time of the last exit; absent while it runs, and if it never started.
 */
finished: Timestamp | null, 
/**
 * State.
 */
state: ContainerState, 
/**
 * Exit status of its last run; absent before the first exit.
 */
exitStatus: number | null, 
/**
 * Health; absent without a health check.
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
 * Names of the volumes it mounts.
 */
volumes: Array<string>, 
/**
 * Its place in a Compose project, if any.
 */
compose: ComposeMember | null, 
/**
 * Labels.
 */
labels: Array<NameValue>, };

/**
 * Creates an image from a container.
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
 * Message for the image's history.
 */
message: string, };

/**
 * Details of one container.
 */
export type ContainerDetail = { 
/**
 * The container as in the list.
 */
container: Container, 
/**
 * Entry point and arguments.
 */
command: Array<string>, 
/**
 * Working directory.
 */
workingDirectory: string, 
/**
 * User it runs as; empty means root.
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
 * Its addresses, by network.
 */
endpoints: Array<ContainerEndpoint>, 
/**
 * A `docker run` command that creates an equal container.
 */
runCommand: string, 
/**
 * The engine's own document (`docker inspect`).
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
 * IPv4 address; empty while it does not run.
 */
address: string, 
/**
 * IPv6 address, if any.
 */
address6: string | null, 
/**
 * Its aliases there.
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
 * Number of existing lines to send first, counted from the end.
 */
tail: number, 
/**
 * Keeps sending new lines; otherwise the stream ends after the last existing line.
 */
follow: boolean, 
/**
 * Sends only lines after this moment, for resuming after a pause.
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
 * Port in the container.
 */
containerPort: number, 
/**
 * Port on this computer, when published.
 */
hostPort: number | null, 
/**
 * Address on this computer, when published.
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
 * Kills it first if it runs.
 */
force: boolean, 
/**
 * Removes its anonymous volumes too.
 */
volumes: boolean, };

/**
 * Renames a container.
 */
export type ContainerRename = { 
/**
 * Identifier or name.
 */
id: string, 
/**
 * The new name.
 */
name: string, };

/**
 * A new container, with the options of `docker run -d`.
 */
export type ContainerRun = { 
/**
 * Image; pulled first if it is missing.
 */
image: string, 
/**
 * Name; absent means Docker generates one.
 */
name: string | null, 
/**
 * Published ports in the form of `-p`: `8080:80`, `127.0.0.1:53:53/udp`.
 */
ports: Array<string>, 
/**
 * Mounts in the form of `-v`: `data:/var/lib/data`, `/src:/src:ro`.
 */
volumes: Array<string>, 
/**
 * Environment.
 */
environment: Array<NameValue>, 
/**
 * Command and arguments; empty means the image's own.
 */
command: Array<string>, 
/**
 * Restart policy as docker writes it; absent means `no`.
 */
restart: string | null, 
/**
 * Network; absent means the default one.
 */
network: string | null, 
/**
 * Removes the container when it exits.
 */
remove: boolean, 
/**
 * Allocates a terminal and keeps the input open (`-it`).
 */
interactive: boolean, 
/**
 * Platform, such as `linux/amd64`; absent means the machine's own.
 */
platform: string | null, };

/**
 * Progress of running a container.
 */
export type ContainerRunEvent = { "kind": "pulling", 
/**
 * Progress of the pull.
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
 * Resource use of one container.
 */
export type ContainerSample = { 
/**
 * Identifier.
 */
id: string, 
/**
 * Percentage of one processor: 100 means one processor is busy.
 */
cpuPercent: number, 
/**
 * Memory without page cache.
 */
memory: Bytes, 
/**
 * Memory limit; the machine's memory if the container has none.
 */
memoryLimit: Bytes, 
/**
 * Bytes received from the network since it started.
 */
networkReceived: Bytes, 
/**
 * Bytes sent to the network since it started.
 */
networkSent: Bytes, 
/**
 * Bytes read from disk since it started.
 */
diskRead: Bytes, 
/**
 * Bytes written to disk since it started.
 */
diskWritten: Bytes, 
/**
 * Number of processes and threads.
 */
processes: number, };

/**
 * Resource use of containers; about one event a second for all of them.
 */
export type ContainerSamples = { 
/**
 * Time of the sample.
 */
at: Timestamp, 
/**
 * One entry a container.
 */
samples: Array<ContainerSample>, };

/**
 * State of a container.
 */
export type ContainerState = "created" | "running" | "paused" | "restarting" | "exited" | "removing" | "dead";

/**
 * Identifies a container.
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
 * Command to run; absent means the best shell the container has.
 */
command: Array<string> | null, 
/**
 * User to run as; absent means the container's user.
 */
user: string | null, 
/**
 * Size of the terminal.
 */
size: TerminalSize, };

/**
 * The result of a creation.
 */
export type Created = { 
/**
 * Identifier of what was created.
 */
id: string, 
/**
 * Warnings of the engine.
 */
warnings: Array<string>, };

/**
 * Disk space used by the engine, by kind.
 */
export type DiskUsage = { 
/**
 * Images.
 */
images: Usage, 
/**
 * Writable layers of containers.
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
 * A JSON document as the Docker Engine returned it.
 */
export type Document = unknown;

/**
 * Describes a download, before its bytes.
 */
export type Download = { 
/**
 * Suggested file name: `notes.txt`, or `etc.tar` for a directory.
 */
name: string, 
/**
 * Number of bytes to come; absent when not known in advance.
 */
size: Bytes | null, };

/**
 * No parameters, or no result: `{}`.
 */
export type Empty = Record<string, never>;

/**
 * An event of the engine.
 */
export type EngineEvent = { 
/**
 * Time.
 */
at: Timestamp, 
/**
 * Kind of the object: `container`, `image`, `volume`, `network`, `builder`, …
 */
subject: string, 
/**
 * Action: `start`, `die`, `pull`, …
 */
action: string, 
/**
 * Identifier or name of the object.
 */
id: string, 
/**
 * Attributes.
 */
attributes: Array<NameValue>, };

/**
 * Why something failed.
 */
export type Failure = { 
/**
 * Stable code for programs: `engine-not-running`, `not-found`, `conflict`, `config-invalid`, …
 */
code: string, 
/**
 * What failed, on what, and why. No advice.
 */
message: string, 
/**
 * Advice, as an instruction; absent when nothing sensible can be done.
 */
fix: string | null, };

/**
 * A difference between a container and its image.
 */
export type FileChange = { 
/**
 * Full path.
 */
path: string, 
/**
 * The kind of difference.
 */
change: FileChangeKind, };

/**
 * How a file differs from the image.
 */
export type FileChangeKind = "added" | "modified" | "deleted";

/**
 * A directory entry.
 */
export type FileEntry = { 
/**
 * Name.
 */
name: string, 
/**
 * Type.
 */
kind: FileKind, 
/**
 * Size of a regular file.
 */
size: Bytes, 
/**
 * Modification time.
 */
modified: Timestamp, 
/**
 * Permission bits, such as 0o644.
 */
mode: number, 
/**
 * User id of the owner.
 */
user: number, 
/**
 * Group id.
 */
group: number, 
/**
 * Target of a symbolic link.
 */
link: string | null, };

/**
 * Type of a directory entry.
 */
export type FileKind = "file" | "directory" | "link" | "other";

/**
 * Content of a directory.
 */
export type FileList = { 
/**
 * Entries, directories first, then by name.
 */
entries: Array<FileEntry>, 
/**
 * The directory has more than 10,000 entries; the rest is left out.
 */
truncated: boolean, };

/**
 * Moves a file within its container or volume.
 */
export type FileMove = { 
/**
 * The file.
 */
target: FileTarget, 
/**
 * The new full path, at which nothing may exist.
 */
path: string, };

/**
 * The owner of files.
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
 * A file or directory of a container or volume.
 */
export type FileTarget = { 
/**
 * The container or volume.
 */
place: FilePlace, 
/**
 * Full path; `/` is the top.
 */
path: string, };

/**
 * Writes a file: the content as bytes, then `finish`. An existing file is replaced only after all bytes arrived.
 */
export type FileWrite = { 
/**
 * The file.
 */
target: FileTarget, 
/**
 * Number of bytes to come.
 */
size: Bytes, 
/**
 * Permission bits; absent keeps those of an existing file, or means 0o644.
 */
mode: number | null, };

/**
 * Result of a health check.
 */
export type Health = "starting" | "healthy" | "unhealthy";

/**
 * Content of a folder of this computer.
 */
export type HostFolder = { 
/**
 * Full path.
 */
path: string, 
/**
 * The parent folder; absent at the top.
 */
parent: string | null, 
/**
 * Names of its subfolders, without hidden ones.
 */
folders: Array<string>, 
/**
 * Names of its Dockerfiles and compose files.
 */
recipes: Array<string>, };

/**
 * Identifies a folder of this computer, for choosing one to build.
 */
export type HostFolderTarget = { 
/**
 * Full path; absent means the home directory.
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
 * Names in the form `repository:tag`; empty for a dangling image.
 */
tags: Array<string>, 
/**
 * Digests in the form `repository@sha256:…`.
 */
digests: Array<string>, 
/**
 * Creation time.
 */
created: Timestamp, 
/**
 * Size of all layers.
 */
size: Bytes, 
/**
 * Size of the layers it shares with other images; absent until known.
 */
shared: Bytes | null, 
/**
 * Identifiers of the containers created from it.
 */
usedBy: Array<string>, 
/**
 * Labels.
 */
labels: Array<NameValue>, };

/**
 * Details of one image.
 */
export type ImageDetail = { 
/**
 * The image as in the list.
 */
image: Image, 
/**
 * Architecture: `amd64`, `arm64/v8`, …
 */
architecture: string, 
/**
 * Operating system: `linux`.
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
 * Ports it exposes: `80/tcp`.
 */
exposedPorts: Array<string>, 
/**
 * Volumes it declares.
 */
volumes: Array<string>, 
/**
 * Working directory.
 */
workingDirectory: string, 
/**
 * User it runs as; empty means root.
 */
user: string, 
/**
 * History, newest first.
 */
layers: Array<Layer>, 
/**
 * The engine's own document (`docker image inspect`).
 */
document: Document, };

/**
 * An image found in a registry.
 */
export type ImageFound = { 
/**
 * Reference to pull.
 */
reference: string, 
/**
 * Description.
 */
description: string, 
/**
 * Number of stars; absent when the registry has none.
 */
stars: number | null, 
/**
 * An official image of the registry.
 */
official: boolean, };

/**
 * The result of loading images from a file.
 */
export type ImageLoaded = { 
/**
 * The engine's messages, one a line.
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
 * Platform, such as `linux/amd64`; absent means the machine's own.
 */
platform: string | null, };

/**
 * Removes an image.
 */
export type ImageRemove = { 
/**
 * Identifier or reference. A reference removes only that name if the image has others.
 */
image: string, 
/**
 * Removes it even if stopped containers use it.
 */
force: boolean, };

/**
 * Saves images as a tar, sent as bytes.
 */
export type ImageSave = { 
/**
 * Identifiers or references.
 */
images: Array<string>, };

/**
 * Searches a registry for images.
 */
export type ImageSearch = { 
/**
 * Search words; `host:port/words` for a registry other than the default.
 */
term: string, };

/**
 * Tags an image.
 */
export type ImageTag = { 
/**
 * Identifier or reference.
 */
image: string, 
/**
 * The new name, `repository:tag`.
 */
reference: string, };

/**
 * Identifies an image.
 */
export type ImageTarget = { 
/**
 * Identifier or reference.
 */
image: string, };

/**
 * Removes unused images.
 */
export type ImagesPrune = { 
/**
 * All images without a container; otherwise only dangling ones.
 */
all: boolean, };

/**
 * About this installation of Rorqual.
 */
export type Information = { 
/**
 * Version of Rorqual.
 */
version: string, 
/**
 * Host of the page.
 */
platform: Platform, 
/**
 * Full path of the state directory.
 */
home: string, 
/**
 * Number of this computer's CPUs.
 */
cpus: number, 
/**
 * Memory of this computer.
 */
memory: Bytes, 
/**
 * The first-run pages have not been completed yet.
 */
firstRun: boolean, };

/**
 * An instruction of an image, and the layer it added.
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
 * Time it ran.
 */
created: Timestamp, 
/**
 * Size it added; 0 for an instruction without a layer.
 */
size: Bytes, 
/**
 * Comment.
 */
comment: string, };

/**
 * Progress of a layer.
 */
export type LayerProgress = { 
/**
 * Short identifier.
 */
id: string, 
/**
 * The engine's status: `Downloading`, `Extracting`, `Pull complete`, `Already exists`.
 */
status: string, 
/**
 * Bytes done in this status.
 */
done: Bytes, 
/**
 * Bytes in total; 0 when not known.
 */
total: Bytes, 
/**
 * The layer is complete.
 */
complete: boolean, };

/**
 * An event of a list: the whole list first, then its changes.
 */
export type ListEvent<T> = { "kind": "all", 
/**
 * Every item.
 */
items: Array<T>, } | { "kind": "changes", 
/**
 * New or changed items, complete.
 */
changed: Array<T>, 
/**
 * Identifiers of removed items.
 */
removed: Array<string>, };

/**
 * A line of a log.
 */
export type LogLine = { 
/**
 * Time of writing; absent when the log driver does not record it.
 */
at: Timestamp | null, 
/**
 * Whether it was written to standard error.
 */
error: boolean, 
/**
 * Text without the line end, with escape sequences. Invalid UTF-8 is replaced. Longer lines arrive in pieces of at
 * most 16 KiB.
 */
text: string, };

/**
 * Lines of a log, batched when they arrive fast.
 */
export type LogLines = { 
/**
 * The lines, in order.
 */
lines: Array<LogLine>, 
/**
 * Number of lines dropped before these because the page read too slowly.
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
 * State.
 */
state: MachineState, 
/**
 * Details of the state, such as why it failed; often empty.
 */
message: string, 
/**
 * Advice about the details, as an instruction; empty when none is needed.
 */
fix: string | null, 
/**
 * Accelerator: `kvm` or `uml`; empty while stopped.
 */
accelerator: string, 
/**
 * Why this accelerator was chosen.
 */
acceleratorReason: string, 
/**
 * Number of virtual CPUs.
 */
cpus: number, 
/**
 * Memory of the guest.
 */
memory: Bytes, 
/**
 * Size of its disk as the guest sees it.
 */
disk: Bytes, 
/**
 * Space the disk takes on this computer.
 */
diskAllocated: Bytes, 
/**
 * Duration of the start, from the request until the engine answered; absent before that.
 */
readyAfter: Milliseconds | null, 
/**
 * Time since the machine started.
 */
uptime: Milliseconds, 
/**
 * Path of the socket Docker clients connect to.
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
 * A machine's log, sent as bytes.
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
 * Number of existing lines to send first, counted from the end.
 */
tail: number, };

/**
 * Resource use of a machine; about one event a second.
 */
export type MachineSample = { 
/**
 * Percentage of one processor, summed over all virtual CPUs: 100 means one is busy.
 */
cpuPercent: number, 
/**
 * Guest memory used by programs.
 */
memoryUsed: Bytes, 
/**
 * Guest memory used as page cache.
 */
memoryCached: Bytes, 
/**
 * Total memory of the guest.
 */
memoryTotal: Bytes, 
/**
 * Memory the machine takes on this computer.
 */
memoryResident: Bytes, 
/**
 * Space used in the guest's file system.
 */
diskUsed: Bytes, 
/**
 * Space the disk takes on this computer.
 */
diskAllocated: Bytes, 
/**
 * Maximum size of the disk.
 */
diskTotal: Bytes, };

/**
 * A shell in a machine, with bytes both ways.
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
 * Discards a saved state and boots.
 */
cold: boolean, };

/**
 * State of a machine.
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
 * Cuts the power instead of shutting the guest down.
 */
force: boolean, };

/**
 * Identifies a machine.
 */
export type MachineTarget = { 
/**
 * Its name; `default` always exists.
 */
machine: string, };

/**
 * An event of the stream `machines`.
 */
export type MachinesEvent = { "kind": "machines", 
/**
 * All machines.
 */
machines: Array<Machine>, } | { "kind": "unreachable", 
/**
 * Why.
 */
failure: Failure, };

/**
 * A duration in milliseconds.
 */
export type Milliseconds = number;

/**
 * A mount of a container.
 */
export type Mount = { 
/**
 * `volume`, `bind`, `tmpfs`, …
 */
kind: string, 
/**
 * Name of the volume, or folder on this computer.
 */
source: string, 
/**
 * Path in the container.
 */
target: string, 
/**
 * The container may write to it.
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
 * Driver: `bridge`, `host`, `none`, …
 */
driver: string, 
/**
 * Creation time.
 */
created: Timestamp | null, 
/**
 * One of Docker's own networks (`bridge`, `host`, `none`), which cannot be removed.
 */
builtIn: boolean, 
/**
 * Containers in it cannot reach anything outside it.
 */
internal: boolean, 
/**
 * IPv6 is enabled.
 */
ipv6: boolean, 
/**
 * Address ranges.
 */
subnets: Array<Subnet>, 
/**
 * Containers in it.
 */
members: Array<NetworkMember>, 
/**
 * Its Compose project, if any.
 */
project: string | null, 
/**
 * Labels.
 */
labels: Array<NameValue>, };

/**
 * Creates a network.
 */
export type NetworkCreate = { 
/**
 * Name.
 */
name: string, 
/**
 * Address range in CIDR notation; absent means Docker chooses.
 */
subnet: string | null, 
/**
 * Address of the gateway; absent means Docker chooses.
 */
gateway: string | null, 
/**
 * Containers in it cannot reach anything outside it.
 */
internal: boolean, 
/**
 * Enables IPv6.
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
 * Its addresses in the network; empty while it does not run.
 */
addresses: Array<string>, };

/**
 * Connects a container to a network, or disconnects it.
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
 * Identifies a network.
 */
export type NetworkTarget = { 
/**
 * Identifier or name.
 */
id: string, };

/**
 * A type without values, for a direction of a stream that carries none.
 */
export type Never = never;

/**
 * Host of the page.
 */
export type Platform = "desktop" | "web";

/**
 * Processes of a container.
 */
export type Processes = { 
/**
 * Column titles, such as `PID`.
 */
titles: Array<string>, 
/**
 * One row a process.
 */
rows: Array<Array<string>>, };

/**
 * The result of a prune.
 */
export type Pruned = { 
/**
 * Identifiers or names of what was removed.
 */
removed: Array<string>, 
/**
 * Disk space reclaimed.
 */
reclaimed: Bytes, };

/**
 * A published port of a container, whether this computer listens on it or failed to.
 */
export type PublishedPort = { 
/**
 * `tcp` or `udp`.
 */
protocol: string, 
/**
 * Address on this computer.
 */
hostAddress: string, 
/**
 * Port on this computer.
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
 * Why this computer does not listen on it; empty when it does.
 */
error: string, 
/**
 * Advice about the problem, as an instruction; empty when none is needed.
 */
fix: string | null, };

/**
 * Progress of a pull or push. Every event holds all layers.
 */
export type PullProgress = { 
/**
 * Layers, in the order the engine first reported them.
 */
layers: Array<LayerProgress>, 
/**
 * The engine's last message about the whole, such as `Status: Downloaded newer image`.
 */
status: string, };

/**
 * A registry the user is logged in to.
 */
export type Registry = { 
/**
 * `host` or `host:port`, as Docker stores it.
 */
host: string, 
/**
 * User name; empty when the credential store does not provide it.
 */
user: string, 
/**
 * Where the password is stored: `config.json`, or the name of a credential store.
 */
store: string, };

/**
 * Logs in. The password is stored in Docker's credential store only.
 */
export type RegistryLogin = { 
/**
 * `host` or `host:port`; empty means Docker's default registry.
 */
host: string, 
/**
 * User name.
 */
user: string, 
/**
 * Password or token.
 */
password: string, };

/**
 * Identifies a registry.
 */
export type RegistryTarget = { 
/**
 * As [`Registry`] has it.
 */
host: string, };

/**
 * Performs a reset.
 */
export type Reset = { 
/**
 * The level.
 */
level: ResetLevel, 
/**
 * The user's confirmation. Levels `data` and `factory` require the word `delete`.
 */
confirmation: string, };

/**
 * How much a reset deletes.
 */
export type ResetLevel = "restart" | "prune" | "data" | "factory";

/**
 * A level of reset, with its effect in the current state.
 */
export type ResetPlan = { 
/**
 * The level.
 */
level: ResetLevel, 
/**
 * What it deletes, one entry a line: `12 containers`, `3 volumes (1.2 GB)`.
 */
deletes: Array<string>, 
/**
 * What it keeps, one entry a line.
 */
keeps: Array<string>, };

/**
 * Containers to sample.
 */
export type SampleTargets = { 
/**
 * Identifiers; absent means all running containers, including those that start later.
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
 * Full key, such as `network.host_access`.
 */
key: string, 
/**
 * Heading of its group.
 */
section: string, 
/**
 * Short title.
 */
title: string, 
/**
 * What it does, in one or more sentences. Commands and keys are in backticks.
 */
description: string, 
/**
 * The values it accepts.
 */
kind: SettingKind, 
/**
 * Current value: the file's, or the default.
 */
value: SettingValue, 
/**
 * Default value.
 */
default: SettingValue, 
/**
 * When a change takes effect.
 */
takesEffect: TakesEffect, 
/**
 * The same as a sentence. Commands are in backticks.
 */
takesEffectNote: string, 
/**
 * A running daemon or machine still uses another value.
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
 * New value; absent removes the key, so that the default applies.
 */
value: SettingValue | null, };

/**
 * A word a setting accepts.
 */
export type SettingChoice = { 
/**
 * As in the file.
 */
value: string, 
/**
 * Label for a person.
 */
title: string, };

/**
 * The values a setting accepts.
 */
export type SettingKind = { "kind": "switch" } | { "kind": "choice", 
/**
 * The accepted words and their meanings.
 */
choices: Array<SettingChoice>, } | { "kind": "integer", 
/**
 * Smallest accepted value.
 */
minimum: number, 
/**
 * Largest accepted value.
 */
maximum: number, 
/**
 * Unit: `MiB`, `GiB`, or empty.
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
 * The settings, in the order of the files.
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
 * Why the file cannot be read; until that is corrected its settings cannot be changed.
 */
error: Failure | null, };

/**
 * A step of a long operation.
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
 * Duration; present once the step is complete.
 */
took: Milliseconds | null, };

/**
 * An address range of a network.
 */
export type Subnet = { 
/**
 * In CIDR notation: `172.18.0.0/16`.
 */
subnet: string, 
/**
 * Address of the gateway, if any.
 */
gateway: string | null, };

/**
 * When a changed setting takes effect.
 */
export type TakesEffect = "newMachine" | "machineStart" | "machineBoot" | "daemonStart" | "startCommand";

/**
 * An event of a terminal. Output is sent as bytes.
 */
export type TerminalEvent = { "kind": "started", 
/**
 * The command that was found, such as `/bin/sh`.
 */
command: Array<string>, } | { "kind": "exited", 
/**
 * Exit status.
 */
status: number, };

/**
 * Input of a terminal. Keystrokes are sent as bytes.
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
 * Ends an upload.
 */
export type UploadInput = { "kind": "finish" };

/**
 * Disk space used by one kind.
 */
export type Usage = { 
/**
 * Number of items.
 */
count: number, 
/**
 * Size of all of them.
 */
size: Bytes, 
/**
 * Size a prune would reclaim.
 */
reclaimable: Bytes, };

/**
 * Severity of a finding.
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
 * Driver, usually `local`.
 */
driver: string, 
/**
 * Creation time.
 */
created: Timestamp | null, 
/**
 * Size of its content; absent until known.
 */
size: Bytes | null, 
/**
 * Identifiers of the containers that mount it.
 */
usedBy: Array<string>, 
/**
 * Anonymous: Docker generated its name.
 */
anonymous: boolean, 
/**
 * Its Compose project, if any.
 */
project: string | null, 
/**
 * Labels.
 */
labels: Array<NameValue>, 
/**
 * Path in the machine.
 */
mountpoint: string, };

/**
 * Creates a volume.
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
 * Identifies a volume.
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
 * Includes named volumes; otherwise only anonymous ones.
 */
all: boolean, };
