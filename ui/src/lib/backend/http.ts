// The backend over HTTP: calls are requests, and all streams share one WebSocket. Text frames are JSON; binary frames
// are the stream's number (32 bits, big-endian) and bytes.
import type { Backend, CallName, Calls, Failure, Stream, StreamHandlers, StreamName, Streams } from "./backend";
import { BackendError, Credit } from "./backend";

interface OpenStream {
  name: StreamName;
  handlers: StreamHandlers<StreamName>;
  credit: Credit;
}

type ServerFrame = { id: number; event?: unknown; end?: true; error?: Failure };

export const DISCONNECTED: Failure = {
  code: "disconnected",
  message: "The connection to Rorqual was lost.",
  fix: "If you stopped `rorqual web`, start it again and open the address it prints.",
};

export class HttpBackend implements Backend {
  #socket: WebSocket | null = null;
  #waiting: (string | Uint8Array<ArrayBuffer>)[] = [];
  #streams = new Map<number, OpenStream>();
  #next = 1;

  constructor(private readonly base: string = location.origin) {}

  async call<M extends CallName>(
    name: M,
    params: Calls[M]["params"],
    options: { signal?: AbortSignal } = {},
  ): Promise<Calls[M]["result"]> {
    let response: Response;
    try {
      response = await fetch(`${this.base}/api/call/${name}`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify(params),
        credentials: "same-origin",
        signal: options.signal ?? null,
      });
    } catch (error) {
      if (options.signal?.aborted) throw BackendError.from(error);
      throw new BackendError(DISCONNECTED);
    }
    const body: unknown = await response.json().catch(() => null);
    if (response.ok) return body as Calls[M]["result"];
    throw new BackendError(
      isFailure(body)
        ? body
        : { code: `http-${response.status}`, message: `Rorqual answered with status ${response.status}.`, fix: null },
    );
  }

  open<S extends StreamName>(name: S, params: Streams[S]["params"], handlers: StreamHandlers<S>): Stream<S> {
    const id = this.#next++;
    const credit = new Credit((events) => this.#send({ id, credit: events }));
    this.#streams.set(id, { name, handlers: handlers as StreamHandlers<StreamName>, credit });
    this.#send({ id, open: { stream: name, params } });
    return {
      send: (input) => this.#streams.has(id) && this.#send({ id, input }),
      sendBytes: (bytes) => {
        if (!this.#streams.has(id)) return;
        const frame = new Uint8Array(4 + bytes.length);
        new DataView(frame.buffer).setUint32(0, id);
        frame.set(bytes, 4);
        this.#transmit(frame);
      },
      close: () => {
        if (this.#streams.delete(id)) this.#send({ id, close: true });
      },
    };
  }

  #send(frame: object): void {
    this.#transmit(JSON.stringify(frame));
  }

  #transmit(frame: string | Uint8Array<ArrayBuffer>): void {
    const socket = this.#connected();
    if (socket.readyState === WebSocket.OPEN) socket.send(frame);
    else this.#waiting.push(frame);
  }

  #connected(): WebSocket {
    if (this.#socket) return this.#socket;
    const socket = new WebSocket(`${this.base.replace(/^http/, "ws")}/api/streams`);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      for (const frame of this.#waiting.splice(0)) socket.send(frame);
    };
    socket.onmessage = (message) => {
      if (typeof message.data === "string") this.#receive(JSON.parse(message.data) as ServerFrame);
      else this.#receiveBytes(message.data as ArrayBuffer);
    };
    socket.onclose = () => {
      if (this.#socket !== socket) return;
      this.#socket = null;
      this.#waiting = [];
      const lost = [...this.#streams.values()];
      this.#streams.clear();
      for (const stream of lost) stream.handlers.onError?.(new BackendError(DISCONNECTED));
    };
    this.#socket = socket;
    return socket;
  }

  #receive(frame: ServerFrame): void {
    const stream = this.#streams.get(frame.id);
    if (!stream) return;
    if ("event" in frame) {
      stream.handlers.onEvent?.(frame.event as Streams[StreamName]["event"]);
      stream.credit.take();
    } else {
      this.#streams.delete(frame.id);
      if (frame.error) stream.handlers.onError?.(new BackendError(frame.error));
      else stream.handlers.onEnd?.();
    }
  }

  #receiveBytes(data: ArrayBuffer): void {
    const stream = this.#streams.get(new DataView(data).getUint32(0));
    if (!stream) return;
    stream.handlers.onBytes?.(new Uint8Array(data, 4));
    stream.credit.take();
  }
}

function isFailure(body: unknown): body is Failure {
  return typeof body === "object" && body !== null && "code" in body && "message" in body;
}
