// The backend inside the desktop application: calls and streams over its IPC. A stream's frames arrive over one
// channel, JSON as objects and bytes raw.
import { Channel, invoke } from "@tauri-apps/api/core";

import type { Backend, CallName, Calls, Failure, Stream, StreamHandlers, StreamName, Streams } from "./backend";
import { BackendError, Credit } from "./backend";

type Frame = ArrayBuffer | number[] | { event?: unknown; end?: true; error?: Failure };

export class TauriBackend implements Backend {
  #next = 1;

  async call<M extends CallName>(
    name: M,
    params: Calls[M]["params"],
    options: { signal?: AbortSignal } = {},
  ): Promise<Calls[M]["result"]> {
    const answer = invoke<Calls[M]["result"]>("call", { name, params }).catch((error: unknown) => {
      throw isFailure(error) ? new BackendError(error) : BackendError.from(error);
    });
    const { signal } = options;
    if (!signal) return answer;
    return Promise.race([
      answer,
      new Promise<never>((_, reject) =>
        signal.addEventListener("abort", () => reject(BackendError.from(signal.reason)), { once: true }),
      ),
    ]);
  }

  open<S extends StreamName>(name: S, params: Streams[S]["params"], handlers: StreamHandlers<S>): Stream<S> {
    const id = this.#next++;
    let live = true;
    // A stream that has ended ignores further commands.
    const invokeFor = (command: string, more: Record<string, unknown>) =>
      invoke(command, { id, ...more }).catch(() => undefined);
    const credit = new Credit((events) => live && void invokeFor("stream_credit", { events }));
    const channel = new Channel<Frame>();
    channel.onmessage = (frame) => {
      if (!live) return;
      if (frame instanceof ArrayBuffer || Array.isArray(frame)) {
        handlers.onBytes?.(new Uint8Array(frame));
        credit.take();
      } else if ("event" in frame) {
        handlers.onEvent?.(frame.event as Streams[S]["event"]);
        credit.take();
      } else {
        live = false;
        if (frame.error) handlers.onError?.(new BackendError(frame.error));
        else handlers.onEnd?.();
      }
    };
    const opened = invoke("stream_open", { id, name, params, channel }).catch((error: unknown) => {
      if (!live) return;
      live = false;
      handlers.onError?.(isFailure(error) ? new BackendError(error) : BackendError.from(error));
    });
    // Concurrent commands would overtake each other, so each waits for the one before.
    let last: Promise<unknown> = opened;
    const then = (next: () => Promise<unknown>) => {
      last = last.then(() => (live ? next() : undefined));
    };
    return {
      send: (input) => then(() => invokeFor("stream_input", { input })),
      sendBytes: (bytes) =>
        then(() => invoke("stream_bytes", bytes, { headers: { stream: String(id) } }).catch(() => undefined)),
      close: () => {
        if (!live) return;
        live = false;
        void opened.then(() => invokeFor("stream_close", {}));
      },
    };
  }
}

function isFailure(error: unknown): error is Failure {
  return typeof error === "object" && error !== null && "code" in error && "message" in error;
}
