// The running build, which continues while the user looks at other views.
import type { BackendError, BuildOutcome, BuildRun, BuildStep, Stream } from "../../lib/backend";
import { backend } from "../../lib/stores/page.svelte";

interface LiveBuild {
  request: BuildRun;
  steps: BuildStep[];
  outputs: Record<string, string>;
  outcome: BuildOutcome | null;
  failure: BackendError | null;
  over: boolean;
}

/** Characters of output kept per step; the oldest are dropped. */
const OUTPUT_KEPT = 256 * 1024;

class Builds {
  current = $state<LiveBuild | null>(null);
  /** Number of builds that have ended. */
  finished = $state(0);
  #stream: Stream<"build.run"> | null = null;

  run(request: BuildRun): void {
    this.#stream?.close();
    this.current = { request, steps: [], outputs: {}, outcome: null, failure: null, over: false };
    this.#stream = backend().open("build.run", request, {
      onEvent: (event) => {
        const build = this.current;
        if (!build) return;
        if (event.kind === "step") {
          const index = build.steps.findIndex((step) => step.id === event.step.id);
          if (index >= 0) build.steps[index] = event.step;
          else build.steps.push(event.step);
        } else if (event.kind === "output") {
          build.outputs[event.id] = ((build.outputs[event.id] ?? "") + event.text).slice(-OUTPUT_KEPT);
        } else {
          build.outcome = event.record.outcome;
          build.steps = event.record.steps;
        }
      },
      onEnd: () => this.#over(null),
      onError: (error) => this.#over(error),
    });
  }

  cancel(): void {
    this.#stream?.close();
    if (this.current) this.current.outcome = { kind: "canceled" };
    this.#over(null);
  }

  #over(failure: BackendError | null): void {
    if (this.current) {
      this.current.over = true;
      this.current.failure = failure;
    }
    this.finished += 1;
  }
}

export const builds = new Builds();
