// Inside the desktop application: calls and streams by its IPC. A stream's frames come over one channel: JSON as objects, bytes raw.
import { Channel, invoke } from "@tauri-apps/api/core";

import type { Backend, CallName, Calls, Failure, Stream, StreamHandlers, StreamName, Streams } from "./backend";
import { BackendError, Credit } from "./backend";

type Frame = ArrayBuffer | number[] | { event?: unknown; end?: true; error?: Failure };

export class TauriBackend implements Backend {
  #next = 1;

  async call<M extends CallName>(name: M, params: Calls[M]["params"], options: { signal?: AbortSignal } = {}): Promise<Calls[M]["result"]> {
    const answer = invoke<Calls[M]["result"]>("call", { name, params }).catch((error: unknown) => {
      throw isFailure(error) ? new BackendError(error) : BackendError.from(error);
    });
    const { signal } = options;
    if (!signal) return answer;
    return Promise.race([
      answer,
      new Promise<never>((_, reject) => signal.addEventListener("abort", () => reject(BackendError.from(signal.reason)), { once: true })),
    ]);
  }

  open<S extends StreamName>(name: S, params: Streams[S]["params"], handlers: StreamHandlers<S>): Stream<S> {
    const id = this.#next++;
    let live = true;
    const tell = (command: string, more: Record<string, unknown> = {}) => {
      // A stream that has ended meanwhile takes nothing more.
      invoke(command, { id, ...more }).catch(() => undefined);
    };
    const credit = new Credit((events) => live && tell("stream_credit", { events }));
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
    invoke("stream_open", { id, name, params, channel }).catch((error: unknown) => {
      if (!live) return;
      live = false;
      handlers.onError?.(isFailure(error) ? new BackendError(error) : BackendError.from(error));
    });
    return {
      send: (input) => live && tell("stream_input", { input }),
      sendBytes: (bytes) => live && tell("stream_bytes", { bytes: [...bytes] }),
      close: () => {
        if (!live) return;
        live = false;
        tell("stream_close");
      },
    };
  }
}

function isFailure(error: unknown): error is Failure {
  return typeof error === "object" && error !== null && "code" in error && "message" in error;
}
