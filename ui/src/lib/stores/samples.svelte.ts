// Resource usage of containers: the latest sample of each, and fifteen minutes of history for charts.
import type { ContainerSample } from "../backend";
import { engine } from "./engine.svelte";
import { live } from "./live.svelte";

const KEPT = 15 * 60;

/** Samples of one container in columns, the format of the charts. Rates are per second. */
export class History {
  at: number[] = [];
  cpu: number[] = [];
  memory: number[] = [];
  received: number[] = [];
  sent: number[] = [];
  read: number[] = [];
  written: number[] = [];
  #last: { at: number; sample: ContainerSample } | null = null;

  add(at: number, sample: ContainerSample): void {
    const last = this.#last;
    this.#last = { at, sample };
    const seconds = last ? (at - last.at) / 1000 : 0;
    // Counters restart with their container.
    const rate = (pick: (sample: ContainerSample) => number) =>
      last && seconds > 0 ? Math.max(0, pick(sample) - pick(last.sample)) / seconds : 0;
    this.at.push(at / 1000);
    this.cpu.push(sample.cpuPercent);
    this.memory.push(sample.memory);
    this.received.push(rate((one) => one.networkReceived));
    this.sent.push(rate((one) => one.networkSent));
    this.read.push(rate((one) => one.diskRead));
    this.written.push(rate((one) => one.diskWritten));
    if (this.at.length > KEPT) {
      for (const column of [this.at, this.cpu, this.memory, this.received, this.sent, this.read, this.written])
        column.shift();
    }
  }
}

class Samples {
  latest = $state.raw<Map<string, ContainerSample>>(new Map());
  /** Counts events, to notify charts of new data. */
  tick = $state(0);
  #histories = new Map<string, History>();

  follow(): void {
    live("containers.samples", () => (engine.running ? { ids: null } : null), {
      onEvent: ({ at, samples }) => {
        this.latest = new Map(samples.map((sample) => [sample.id, sample]));
        for (const sample of samples) this.history(sample.id).add(at, sample);
        for (const id of this.#histories.keys()) if (!this.latest.has(id)) this.#histories.delete(id);
        this.tick += 1;
      },
      onError: () => {
        this.latest = new Map();
      },
    });
  }

  history(id: string): History {
    let history = this.#histories.get(id);
    if (!history) {
      history = new History();
      this.#histories.set(id, history);
    }
    return history;
  }
}

export const samples = new Samples();
