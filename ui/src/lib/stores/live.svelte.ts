// Streams that stay open: while the page is seen and a condition holds, again after the connection was lost.
import type { BackendError, StreamHandlers, StreamName, Streams } from "../backend";
import { backend, visibility } from "./page.svelte";

const FIRST_RETRY = 500;
const LAST_RETRY = 8000;

/** The connection of the page to Rorqual as a whole. */
class Connection {
  lost = $state<BackendError | null>(null);
}

export const connection = new Connection();

export interface LiveHandlers<S extends StreamName> extends StreamHandlers<S> {
  /** It was opened (again): what was known may be out of date. */
  onOpen?(): void;
}

/**
 * Must be called where an effect may be made. Opens the stream whenever the page is seen and `wanted` gives parameters,
 * closes it when not. A stream that fails is opened again after a pause that doubles, unless `wanted` changes
 * meanwhile.
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
