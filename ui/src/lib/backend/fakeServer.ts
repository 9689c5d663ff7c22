// For tests: replaces the browser's fetch and WebSocket with a made-up engine that speaks the protocol of `rorqual
// web`.
import { vi } from "vitest";

import { type Backend, BackendError, type CallName, type Stream, type StreamName } from "./backend";

type PageFrame = {
  id: number;
  open?: { stream: StreamName; params: never };
  input?: never;
  close?: true;
  credit?: number;
};
type Listener = ((event: never) => void) | null;

export class FakeServer {
  /** Text frames in order of arrival. */
  readonly received: PageFrame[] = [];
  readonly addresses: string[] = [];
  #streams = new Map<number, Stream<StreamName>>();
  #socket: { onmessage: Listener; onclose: Listener } | null = null;

  constructor(private readonly engine: Backend) {}

  install(): void {
    vi.stubGlobal("fetch", (address: string, init: RequestInit) => this.#answer(address, init));
    const opened = (socket: { onmessage: Listener; onclose: Listener }, address: string) => {
      this.#socket = socket;
      this.addresses.push(address);
    };
    const receive = (frame: string | Uint8Array<ArrayBuffer>) => this.#receive(frame);
    vi.stubGlobal(
      "WebSocket",
      class {
        static readonly OPEN = 1;
        readyState = 0;
        binaryType = "blob";
        onopen: Listener = null;
        onmessage: Listener = null;
        onclose: Listener = null;
        constructor(address: string) {
          opened(this, address);
          queueMicrotask(() => {
            this.readyState = 1;
            this.onopen?.(undefined as never);
          });
        }
        send = receive;
      },
    );
  }

  send(frame: object): void {
    this.#deliver(JSON.stringify(frame));
  }

  drop(): void {
    const socket = this.#socket;
    this.#socket = null;
    for (const stream of this.#streams.values()) stream.close();
    this.#streams.clear();
    socket?.onclose?.(undefined as never);
  }

  #deliver(data: string | ArrayBuffer): void {
    this.#socket?.onmessage?.({ data } as never);
  }

  async #answer(address: string, init: RequestInit): Promise<Response> {
    const name = new URL(address).pathname.replace("/api/call/", "") as CallName;
    try {
      return Response.json(
        await this.engine.call(
          name,
          JSON.parse(init.body as string) as never,
          init.signal ? { signal: init.signal } : {},
        ),
      );
    } catch (error) {
      const { code, message, fix } = BackendError.from(error);
      if (code === "canceled") throw init.signal?.reason;
      return Response.json({ code, message, fix }, { status: 422 });
    }
  }

  #receive(frame: string | Uint8Array<ArrayBuffer>): void {
    if (typeof frame !== "string") {
      this.#streams.get(new DataView(frame.buffer).getUint32(0))?.sendBytes(frame.subarray(4));
      return;
    }
    const { id, open, input, close, ...rest } = JSON.parse(frame) as PageFrame;
    this.received.push(JSON.parse(frame) as PageFrame);
    if (open) {
      const stream = this.engine.open(open.stream, open.params, {
        onEvent: (event) => this.send({ id, event }),
        onBytes: (bytes) => {
          const data = new Uint8Array(4 + bytes.length);
          new DataView(data.buffer).setUint32(0, id);
          data.set(bytes, 4);
          this.#deliver(data.buffer);
        },
        onEnd: () => this.send({ id, end: true }),
        onError: ({ code, message, fix }) => this.send({ id, error: { code, message, fix } }),
      });
      this.#streams.set(id, stream);
    } else if (input !== undefined) this.#streams.get(id)?.send(input);
    else if (close) this.#streams.get(id)?.close();
    else if (rest.credit === undefined) throw new Error(`a frame that means nothing: ${frame}`);
  }
}
