// Streams that stay open while the page is visible and a condition holds, and reopen after the connection was lost.
import type { BackendError, StreamHandlers, StreamName, Streams } from "../backend";
import { backend, visibility } from "./page.svelte";

const FIRST_RETRY = 500;
const LAST_RETRY = 8000;

/** The page's connection to Rorqual. */
class Connection {
  lost = $state<BackendError | null>(null);
}

export const connection = new Connection();

export interface LiveHandlers<S extends StreamName> extends StreamHandlers<S> {
  /** The stream was opened or reopened: earlier data may be out of date. */
  onOpen?(): void;
}

/**
 * Must be called where an effect may be created. Opens the stream while the page is visible and `wanted` returns
 * parameters, and closes it otherwise. A stream that ends or fails reopens after a pause that doubles, unless `wanted`
 * changes first.
 */
export function live<S extends StreamName>(
  name: S,
  wanted: () => Streams[S]["params"] | null,
  handlers: LiveHandlers<S>,
): void {
  let attempt = $state(0);
  let pause = FIRST_RETRY;
  $effect(() => {
    void attempt;
    const params = visibility.visible ? wanted() : null;
    if (params === null) {
      pause = FIRST_RETRY;
      return;
    }
    let timer: ReturnType<typeof setTimeout> | undefined;
    const again = () => {
      timer = setTimeout(() => {
        attempt += 1;
      }, pause);
      pause = Math.min(pause * 2, LAST_RETRY);
    };
    handlers.onOpen?.();
    const stream = backend().open(name, params, {
      onEvent: (event) => {
        pause = FIRST_RETRY;
        connection.lost = null;
        handlers.onEvent?.(event);
      },
      onBytes: (bytes) => handlers.onBytes?.(bytes),
      onEnd: () => {
        handlers.onEnd?.();
        again();
      },
      onError: (error) => {
        if (error.code === "disconnected" || error.code === "http-401") connection.lost = error;
        handlers.onError?.(error);
        again();
      },
    });
    return () => {
      clearTimeout(timer);
      stream.close();
    };
  });
}
