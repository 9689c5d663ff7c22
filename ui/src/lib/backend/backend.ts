// The one interface through which the pages talk to Rorqual. Calls have one answer; streams give events (and bytes) until
// they end. What they carry is generated from the engine's types.
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

/** What happens in a stream. After `onEnd` or `onError` nothing more does. */
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
  /** Ends it and cancels what it does; no handler is called after this. */
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

/** Events a stream may send before the page has taken them; more is granted as they are. */
export const INITIAL_CREDIT = 64;

/** Counts what a page has taken of a stream and says when to grant more: in halves, so that grants are rare. */
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
