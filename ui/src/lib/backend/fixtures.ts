// A backend without an engine, for development, unit tests, pictures and the benchmark of big lists.
// `?fixtures=<scenario>` chooses its state; see `SCENARIOS`.
import {
  type Backend,
  BackendError,
  type CallName,
  type Calls,
  type Stream,
  type StreamHandlers,
  type StreamName,
  type Streams,
} from "./backend";
import { handlers } from "./fixtures/calls";
import { Channel } from "./fixtures/channel";
import { Files } from "./fixtures/files";
import { streams } from "./fixtures/streams";
import { World } from "./fixtures/world";

/** Calls that only read; the scenario "broken" lets these through. */
const READING: readonly CallName[] = [
  "app.information",
  "app.finishFirstRun",
  "container.inspect",
  "container.processes",
  "container.changes",
  "image.inspect",
  "files.list",
  "host.folder",
  "builds.history",
  "builds.inspect",
  "registries.list",
  "system.usage",
  "settings.get",
  "diagnose.checks",
  "diagnose.resetPlans",
];

export class FixtureBackend implements Backend {
  readonly world: World;
  #calls: ReturnType<typeof handlers>;
  #streams: ReturnType<typeof streams>;

  /** `latency` is how long a call takes, in milliseconds. */
  constructor(
    scenario = "",
    private readonly latency = scenario === "slow" ? 3000 : 120,
  ) {
    this.world = new World(scenario);
    const files = new Files();
    this.#calls = handlers(this.world, files);
    this.#streams = streams(this.world, files);
  }

  async call<M extends CallName>(
    name: M,
    params: Calls[M]["params"],
    options: { signal?: AbortSignal } = {},
  ): Promise<Calls[M]["result"]> {
    const { signal } = options;
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(resolve, this.latency);
      const abort = () => {
        clearTimeout(timer);
        reject(BackendError.from(signal?.reason));
      };
      if (signal?.aborted) abort();
      else signal?.addEventListener("abort", abort, { once: true });
    });
    if (this.world.scenario === "broken" && !READING.includes(name)) {
      throw new BackendError({
        code: "engine-failed",
        message:
          "The Docker Engine answered with status 500: failed to set up container networking: " +
          "driver failed programming external connectivity.",
        fix: "Restart the machine. If that does not help, save a support bundle in Diagnose.",
      });
    }
    // A page must neither change the engine's objects nor see them change.
    return structuredClone(this.#calls[name](params));
  }

  open<S extends StreamName>(name: S, params: Streams[S]["params"], told: StreamHandlers<S>): Stream<S> {
    const channel = new Channel<S>(told);
    // As over a network: nothing happens before `open` has returned.
    queueMicrotask(() => void this.#serve(name, params, channel));
    return {
      // Input sent at once arrives after the stream has opened, as over a network.
      send: (input) => queueMicrotask(() => channel.open && channel.onInput(input)),
      sendBytes: (bytes) => queueMicrotask(() => channel.open && channel.onBytes(bytes)),
      close: () => channel.close(),
    };
  }

  async #serve<S extends StreamName>(name: S, params: Streams[S]["params"], channel: Channel<S>): Promise<void> {
    if (!channel.open) return;
    try {
      await this.#streams[name](params, channel);
    } catch (error) {
      channel.fail(BackendError.from(error));
    }
  }
}
