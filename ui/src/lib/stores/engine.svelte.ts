// The machines, the connection to the daemon, and long operations on a machine.
import { BackendError, type Information, type Machine, type Step, type StreamName, type Streams } from "../backend";
import { live } from "./live.svelte";
import { backend } from "./page.svelte";

export const DEFAULT_MACHINE = "default";

/** A start, stop, restart, suspend or reset in progress, by step. */
export interface Operation {
  title: string;
  steps: Step[];
  begun: number;
  failure: BackendError | null;
  cancel: () => void;
}

class Engine {
  machines = $state.raw<Machine[]>([]);
  /** The daemon's state is known. */
  known = $state(false);
  /** Why the daemon does not answer. */
  unreachable = $state.raw<BackendError | null>(null);
  operation = $state<Operation | null>(null);
  information = $state.raw<Information | null>(null);

  machine = $derived(this.machines.find((machine) => machine.name === DEFAULT_MACHINE) ?? this.machines[0] ?? null);
  running = $derived(this.unreachable === null && this.machine?.state === "running");

  follow(): void {
    live("machines", () => ({}), {
      onEvent: (event) => {
        this.known = true;
        if (event.kind === "machines") {
          this.machines = event.machines;
          this.unreachable = null;
        } else {
          this.unreachable = new BackendError(event.failure);
        }
      },
      onError: (error) => {
        this.known = true;
        this.unreachable = error;
      },
    });
  }

  async learn(): Promise<void> {
    this.information = await backend().call("app.information", {});
  }

  start(cold = false): Promise<void> {
    return this.#carryOut("Starting the machine", "machine.start", { machine: this.#name(), cold });
  }

  stop(force = false): Promise<void> {
    return this.#carryOut("Stopping the machine", "machine.stop", { machine: this.#name(), force });
  }

  restart(): Promise<void> {
    return this.#carryOut("Restarting the machine", "machine.restart", { machine: this.#name() });
  }

  suspend(): Promise<void> {
    return this.#carryOut("Suspending the machine", "machine.suspend", { machine: this.#name() });
  }

  reset(params: Streams["diagnose.reset"]["params"]): Promise<void> {
    return this.#carryOut("Resetting", "diagnose.reset", params);
  }

  dismiss(): void {
    this.operation = null;
  }

  #name(): string {
    return this.machine?.name ?? DEFAULT_MACHINE;
  }

  #carryOut<S extends StreamName>(title: string, name: S, params: Streams[S]["params"]): Promise<void> {
    return new Promise((resolve, reject) => {
      const stream = backend().open(name, params, {
        onEvent: (event) => {
          const step = event as unknown as Step;
          const { operation } = this;
          if (!operation) return;
          const index = operation.steps.findIndex((known) => known.step === step.step);
          if (index >= 0) operation.steps[index] = step;
          else operation.steps.push(step);
        },
        onEnd: () => {
          this.operation = null;
          resolve();
        },
        onError: (error) => {
          if (this.operation) this.operation.failure = error;
          reject(error);
        },
      });
      this.operation = {
        title,
        steps: [],
        begun: Date.now(),
        failure: null,
        cancel: () => {
          stream.close();
          this.operation = null;
          reject(new BackendError({ code: "canceled", message: "Canceled.", fix: null }));
        },
      };
    });
  }
}

export const engine = new Engine();
