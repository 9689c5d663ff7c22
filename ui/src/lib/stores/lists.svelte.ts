// The lists of all objects: pushed whole once, then by changes.
import type { BackendError, Container, Image, ListEvent, Network, Volume } from "../backend";
import { engine } from "./engine.svelte";
import { live } from "./live.svelte";

type ListName = "containers" | "images" | "volumes" | "networks";

/** A pushed list. It can show the certain effect of an action before the engine confirms it. */
export class PushedList<T> {
  /** In the engine's order; replaced, never changed in place. */
  items = $state.raw<T[]>([]);
  loaded = $state(false);
  failure = $state<BackendError | null>(null);
  #known = new Map<string, T>();

  constructor(
    readonly name: ListName,
    readonly idOf: (item: T) => string,
  ) {}

  /** Keeps the list up to date while the calling effect lives. */
  follow(): void {
    live(this.name, () => (engine.running ? {} : null), {
      onEvent: (event) => this.apply(event as unknown as ListEvent<T>),
      onError: (error) => {
        this.failure = error;
      },
    });
    $effect(() => {
      if (engine.known && !engine.running) this.clear();
    });
  }

  get(id: string): T | undefined {
    // Reads `items` so that callers are notified of changes.
    void this.items;
    return this.#known.get(id);
  }

  apply(event: ListEvent<T>): void {
    if (event.kind === "all") {
      this.#known = new Map(event.items.map((item) => [this.idOf(item), item]));
    } else {
      for (const id of event.removed) this.#known.delete(id);
      for (const item of event.changed) this.#known.set(this.idOf(item), item);
    }
    this.failure = null;
    this.loaded = true;
    this.items = [...this.#known.values()];
  }

  /** Shows `change` at once and returns a function that rolls it back. */
  foresee(id: string, change: (item: T) => T | null): () => void {
    const before = this.#known.get(id);
    if (before === undefined) return () => undefined;
    const after = change(before);
    if (after === null) this.#known.delete(id);
    else this.#known.set(id, after);
    this.items = [...this.#known.values()];
    return () => {
      // An update from the engine takes precedence over the previous state.
      if (this.#known.get(id) !== (after ?? undefined)) return;
      this.#known.set(id, before);
      this.items = [...this.#known.values()];
    };
  }

  clear(): void {
    this.#known.clear();
    this.items = [];
    this.loaded = false;
  }
}

export const containers = new PushedList<Container>("containers", (container) => container.id);
export const images = new PushedList<Image>("images", (image) => image.id);
export const volumes = new PushedList<Volume>("volumes", (volume) => volume.name);
export const networks = new PushedList<Network>("networks", (network) => network.id);

/** Follows all lists; called once, at the root of the page. */
export function followLists(): void {
  for (const list of [containers, images, volumes, networks]) list.follow();
}
