// Actions show their effect at once and roll it back, with the reason, if they fail.
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

  /** Stays until dismissed, so that the user can read and copy the error. */
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

/** Actions in progress by object identifier, as a word such as "Stopping". */
export const pending = new SvelteMap<string, string>();

export interface Intent {
  /** Identifier of the object. */
  on: string;
  /** Shown while it runs: "Stopping". */
  doing: string;
  /** Title of its failure: "Could not stop web". */
  failed: string;
  /** Shows the effect in advance; returns a function that rolls it back. */
  foresee?: () => () => void;
}

/** Makes a call. Returns false if it failed; the user has been notified then. */
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
