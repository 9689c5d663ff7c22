// The only interface between the pages and Rorqual. A call has one answer; a stream delivers events and bytes until it
// ends. Their types are generated from the engine's.
import type { Calls, Failure, Streams } from "./generated/contract";

export type * from "./generated/contract";
export type CallName = keyof Calls;
export type StreamName = keyof Streams;

/** Why a call or stream failed. `code` is for programs, `message` and `fix` for people. */
export class BackendError extends Error {
  readonly code: string;
  readonly fix: string | null;

  constructor(failure: Failure) {
    super(failure.message);
    this.name = "BackendError";
    this.code = failure.code;
    this.fix = failure.fix;
  }

  static from(error: unknown): BackendError {
    if (error instanceof BackendError) return error;
    if (typeof error === "object" && error !== null && "name" in error && error.name === "AbortError")
      return new BackendError({ code: "canceled", message: "Canceled.", fix: null });
    const message = error instanceof Error ? error.message : String(error);
    return new BackendError({ code: "unexpected", message, fix: "Copy this error and report it." });
  }
}

/** Handlers of a stream. None is called after `onEnd` or `onError`. */
export interface StreamHandlers<S extends StreamName> {
  onEvent?(event: Streams[S]["event"]): void;
  onBytes?(bytes: Uint8Array): void;
  onEnd?(): void;
  onError?(error: BackendError): void;
}

/** An open stream. */
export interface Stream<S extends StreamName> {
  send(input: Streams[S]["input"]): void;
  sendBytes(bytes: Uint8Array): void;
  /** Ends the stream and cancels its work; no handler is called afterwards. */
  close(): void;
}

export interface Backend {
  call<M extends CallName>(
    name: M,
    params: Calls[M]["params"],
    options?: { signal?: AbortSignal },
  ): Promise<Calls[M]["result"]>;
  open<S extends StreamName>(name: S, params: Streams[S]["params"], handlers: StreamHandlers<S>): Stream<S>;
}

/** Events a stream may send before the page has consumed any; consuming them grants more. */
export const INITIAL_CREDIT = 64;

/** Counts the events a page has consumed and grants more, half the credit at a time so that grants are rare. */
export class Credit {
  #taken = 0;

  constructor(private readonly grant: (events: number) => void) {}

  take(): void {
    this.#taken += 1;
    if (this.#taken >= INITIAL_CREDIT / 2) {
      this.grant(this.#taken);
      this.#taken = 0;
    }
  }
}
