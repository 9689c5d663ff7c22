// Doing something to something: shown at once, taken back with the reason if it fails.
import { SvelteMap } from "svelte/reactivity";

import { BackendError, type CallName, type Calls } from "../backend";
import { backend } from "./page.svelte";

export interface Notice {
  id: number;
  kind: "done" | "failed";
  title: string;
  error: BackendError | null;
}

const DONE_STAYS = 4000;

class Notices {
  shown = $state<Notice[]>([]);
  #next = 1;

  done(title: string): void {
    const id = this.#add({ kind: "done", title, error: null });
    setTimeout(() => this.dismiss(id), DONE_STAYS);
  }

  /** Stays until it is dismissed: an error is read, copied, acted on. */
  failed(title: string, error: unknown): void {
    this.#add({ kind: "failed", title, error: BackendError.from(error) });
  }

  dismiss(id: number): void {
    this.shown = this.shown.filter((notice) => notice.id !== id);
  }

  #add(notice: Omit<Notice, "id">): number {
    const id = this.#next++;
    this.shown = [...this.shown.slice(-3), { id, ...notice }];
    return id;
  }
}

export const notices = new Notices();

/** What is being done to what, by identifier: a word such as "Stopping". */
export const pending = new SvelteMap<string, string>();

export interface Intent {
  /** Identifier of what it is done to. */
  on: string;
  /** While it is done: "Stopping". */
  doing: string;
  /** What failed, if it does: "Could not stop web". */
  failed: string;
  /** Shows the effect before it is there; gives a function that takes it back. */
  foresee?: () => () => void;
}

/** Carries a call out; false if it failed, which the user has been told. */
export async function act<M extends CallName>(intent: Intent, name: M, params: Calls[M]["params"]): Promise<boolean> {
  const takeBack = intent.foresee?.();
  pending.set(intent.on, intent.doing);
  try {
    await backend().call(name, params);
    return true;
  } catch (error) {
    takeBack?.();
    notices.failed(intent.failed, error);
    return false;
  } finally {
    pending.delete(intent.on);
  }
}

export async function copy(text: string, what: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
    notices.done(`Copied ${what}`);
  } catch (error) {
    notices.failed(`Could not copy ${what}`, error);
  }
}
