// The promises of every backend, tested on the made-up one directly and through the HTTP one with a forwarding server.
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import { type Backend, BackendError, INITIAL_CREDIT, type StreamName } from "./backend";
import { FakeServer } from "./fakeServer";
import { FixtureBackend } from "./fixtures";
import { HttpBackend } from "./http";

const BASE = "http://rorqual.test";

function direct(scenario = ""): Backend {
  return new FixtureBackend(scenario, 0);
}

function overHttp(scenario = ""): Backend {
  new FakeServer(new FixtureBackend(scenario, 0)).install();
  return new HttpBackend(BASE);
}

afterEach(() => {
  vi.unstubAllGlobals();
});

/** Collects everything a stream delivers until it ends. */
function listen<S extends StreamName>(backend: Backend, name: S, params: Parameters<Backend["open"]>[1]) {
  const told: { events: unknown[]; text: string; error: BackendError | null; over: number } = {
    events: [],
    text: "",
    error: null,
    over: 0,
  };
  const decoder = new TextDecoder();
  const stream = backend.open(name, params as never, {
    onEvent: (event) => told.events.push(event),
    onBytes: (bytes) => {
      told.text += decoder.decode(bytes, { stream: true });
    },
    onEnd: () => {
      told.over += 1;
    },
    onError: (error) => {
      told.error = error;
      told.over += 1;
    },
  });
  return { stream, told };
}

describe.each([
  ["made-up", direct],
  ["HTTP", overHttp],
])("the %s backend", (_, make) => {
  it("answers a call", async () => {
    expect((await make().call("app.information", {})).version).toBe("0.1.0");
  });

  it("fails a call with a code, a message and a fix", async () => {
    const refused = make("broken").call("container.stop", { id: "x" });
    await expect(refused).rejects.toBeInstanceOf(BackendError);
    await expect(refused).rejects.toMatchObject({
      code: "engine-failed",
      fix: expect.stringContaining("Restart") as string,
    });
  });

  it("abandons a canceled call", async () => {
    const canceled = new AbortController();
    const call = make().call("settings.get", {}, { signal: canceled.signal });
    canceled.abort();
    await expect(call).rejects.toMatchObject({ code: "canceled" });
  });

  it("delivers nothing before open has returned, then the whole list", async () => {
    const { told } = listen(make(), "containers", {});
    expect(told.events).toEqual([]);
    await vi.waitFor(() => expect(told.events[0]).toMatchObject({ kind: "all" }));
  });

  it("reports the change that a call made", async () => {
    const backend = make();
    const { told } = listen(backend, "volumes", {});
    await vi.waitFor(() => expect(told.events).toHaveLength(1));
    await backend.call("volume.create", { name: "fresh", labels: [] });
    await vi.waitFor(() =>
      expect(told.events[1]).toMatchObject({ kind: "changes", changed: [{ name: "fresh" }], removed: [] }),
    );
  });

  it("delivers nothing once it is closed", async () => {
    const backend = make();
    const { stream, told } = listen(backend, "volumes", {});
    await vi.waitFor(() => expect(told.events).toHaveLength(1));
    stream.close();
    stream.close();
    await backend.call("volume.create", { name: "unseen", labels: [] });
    expect(told).toMatchObject({ over: 0, error: null });
    expect(told.events).toHaveLength(1);
  });

  it("carries bytes up and down, and ends once", async () => {
    const backend = make();
    const place = { kind: "volume", name: "v" } as const;
    const up = listen(backend, "files.write", { target: { place, path: "/note.txt" }, size: 6, mode: null });
    up.stream.sendBytes(new TextEncoder().encode("grüß"));
    up.stream.send({ kind: "finish" } as never);
    await vi.waitFor(() => expect(up.told.over).toBe(1));
    const down = listen(backend, "files.read", { place, path: "/note.txt" });
    await vi.waitFor(() => expect(down.told.over).toBe(1));
    expect(down.told).toMatchObject({ text: "grüß", error: null, events: [{ name: "note.txt" }] });
  });

  it("fails a stream with the same kind of error", async () => {
    const { told } = listen(make(), "files.read", { place: { kind: "volume", name: "v" }, path: "/missing" });
    await vi.waitFor(() => expect(told.over).toBe(1));
    expect(told.error).toMatchObject({ code: "not-found" });
  });
});

describe("the HTTP backend", () => {
  let server: FakeServer;
  let backend: HttpBackend;
  beforeEach(() => {
    server = new FakeServer(new FixtureBackend("", 0));
    server.install();
    backend = new HttpBackend(BASE);
  });

  it("uses one socket for all streams, at the page's own address", async () => {
    const one = listen(backend, "images", {});
    const two = listen(backend, "networks", {});
    await vi.waitFor(() => expect([one.told.events.length, two.told.events.length]).toEqual([1, 1]));
    expect(server.addresses).toEqual(["ws://rorqual.test/api/streams"]);
  });

  it("grants as many events as the page consumed, half the credit at a time", async () => {
    const { told } = listen(backend, "machines", {});
    await vi.waitFor(() => expect(told.events).toHaveLength(1));
    for (let index = 0; index < INITIAL_CREDIT; index += 1)
      server.send({ id: 1, event: { kind: "machines", machines: [] } });
    await vi.waitFor(() => expect(told.events).toHaveLength(INITIAL_CREDIT + 1));
    expect(server.received.filter((frame) => "credit" in frame)).toEqual([
      { id: 1, credit: INITIAL_CREDIT / 2 },
      { id: 1, credit: INITIAL_CREDIT / 2 },
    ]);
  });

  it("fails every stream when the connection is lost, and reconnects for the next one", async () => {
    const lost = [listen(backend, "images", {}), listen(backend, "volumes", {})];
    await vi.waitFor(() => expect(lost.every(({ told }) => told.events.length === 1)).toBe(true));
    server.drop();
    for (const { told } of lost) expect(told).toMatchObject({ over: 1, error: { code: "disconnected" } });
    const next = listen(backend, "images", {});
    await vi.waitFor(() => expect(next.told.events).toHaveLength(1));
    expect(server.addresses).toHaveLength(2);
  });

  it("sends nothing for a stream that has ended", async () => {
    const { stream, told } = listen(backend, "files.read", { place: { kind: "volume", name: "v" }, path: "/missing" });
    await vi.waitFor(() => expect(told.over).toBe(1));
    const before = server.received.length;
    stream.send({ kind: "finish" } as never);
    stream.sendBytes(new Uint8Array(1));
    stream.close();
    expect(server.received).toHaveLength(before);
  });

  it("ignores frames of unknown streams", async () => {
    const { told } = listen(backend, "images", {});
    await vi.waitFor(() => expect(told.events).toHaveLength(1));
    server.send({ id: 99, event: {} });
    server.send({ id: 99, end: true });
    expect(told).toMatchObject({ over: 0 });
  });

  it("reports the status of an answer that is no failure of Rorqual", async () => {
    vi.stubGlobal("fetch", async () => new Response("<html>", { status: 401 }));
    await expect(backend.call("settings.get", {})).rejects.toMatchObject({ code: "http-401" });
  });

  it("reports a lost connection when nobody answers", async () => {
    vi.stubGlobal("fetch", async () => {
      throw new TypeError("Failed to fetch");
    });
    await expect(backend.call("settings.get", {})).rejects.toMatchObject({ code: "disconnected" });
  });
});
