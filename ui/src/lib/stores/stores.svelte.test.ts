import { flushSync } from "svelte";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import { type Backend, BackendError, type ContainerSample, type StreamHandlers, type StreamName } from "../backend";
import { FixtureBackend } from "../backend/fixtures";
import { act, notices, pending } from "./actions.svelte";
import { dialogs } from "./dialogs.svelte";
import { engine } from "./engine.svelte";
import { PushedList } from "./lists.svelte";
import { connection, live } from "./live.svelte";
import { backend, route, setBackend, visibility } from "./page.svelte";
import { History } from "./samples.svelte";

type Item = { id: string; state: string };
const list = () => new PushedList<Item>("containers", (item) => item.id);

describe("a pushed list", () => {
  it("takes the whole list, then changes", () => {
    const items = list();
    items.apply({
      kind: "all",
      items: [
        { id: "a", state: "running" },
        { id: "b", state: "exited" },
      ],
    });
    items.apply({
      kind: "changes",
      changed: [
        { id: "c", state: "created" },
        { id: "a", state: "paused" },
      ],
      removed: ["b"],
    });
    expect(items.items).toEqual([
      { id: "a", state: "paused" },
      { id: "c", state: "created" },
    ]);
    expect(items.get("b")).toBeUndefined();
    expect(items.loaded).toBe(true);
  });

  it("shows a predicted change and rolls it back", () => {
    const items = list();
    items.apply({ kind: "all", items: [{ id: "a", state: "running" }] });
    const takeBack = items.foresee("a", (item) => ({ ...item, state: "paused" }));
    expect(items.get("a")?.state).toBe("paused");
    takeBack();
    expect(items.get("a")?.state).toBe("running");
  });

  it("restores an item predicted to disappear", () => {
    const items = list();
    items.apply({ kind: "all", items: [{ id: "a", state: "running" }] });
    const takeBack = items.foresee("a", () => null);
    expect(items.items).toEqual([]);
    takeBack();
    expect(items.items).toEqual([{ id: "a", state: "running" }]);
  });

  it("does not roll back an update from the engine", () => {
    const items = list();
    items.apply({ kind: "all", items: [{ id: "a", state: "running" }] });
    const takeBack = items.foresee("a", (item) => ({ ...item, state: "paused" }));
    items.apply({ kind: "changes", changed: [{ id: "a", state: "exited" }], removed: [] });
    takeBack();
    expect(items.get("a")?.state).toBe("exited");
  });
});

describe("an action", () => {
  beforeEach(() => {
    notices.shown = [];
  });

  it("that succeeds keeps its effect and shows no notice", async () => {
    setBackend(new FixtureBackend("", 0));
    const id = (backend() as FixtureBackend).world.container("hello").id;
    const takeBack = vi.fn();
    const done = act(
      { on: id, doing: "Pausing", failed: "Could not pause", foresee: () => takeBack },
      "container.pause",
      { id },
    );
    expect(pending.get(id)).toBe("Pausing");
    expect(await done).toBe(true);
    expect(pending.has(id)).toBe(false);
    expect(takeBack).not.toHaveBeenCalled();
    expect(notices.shown).toEqual([]);
  });

  it("that fails is rolled back, with the reason", async () => {
    setBackend(new FixtureBackend("broken", 0));
    const takeBack = vi.fn();
    expect(
      await act(
        { on: "x", doing: "Pausing", failed: "Could not pause x", foresee: () => takeBack },
        "container.pause",
        { id: "x" },
      ),
    ).toBe(false);
    expect(takeBack).toHaveBeenCalledOnce();
    expect(notices.shown).toMatchObject([{ title: "Could not pause x", error: { code: "engine-failed" } }]);
    expect(pending.has("x")).toBe(false);
  });
});

/** Counts what is open and lets a test end it. */
class Counting implements Backend {
  opened = 0;
  handlers: StreamHandlers<StreamName> | null = null;
  call = () => Promise.reject(new Error("not asked for"));
  open = ((_: StreamName, __: unknown, handlers: StreamHandlers<StreamName>) => {
    this.opened += 1;
    this.handlers = handlers;
    return { send: () => undefined, sendBytes: () => undefined, close: () => (this.handlers = null) };
  }) as Backend["open"];
}

describe("a live stream", () => {
  let counting: Counting;
  let stop: () => void;
  let wanted = $state(true);
  beforeEach(() => {
    vi.useFakeTimers();
    counting = new Counting();
    setBackend(counting);
    wanted = true;
    visibility.visible = true;
    stop = $effect.root(() => live("images", () => (wanted ? {} : null), {}));
    flushSync();
  });
  afterEach(() => {
    stop();
    connection.lost = null;
    vi.useRealTimers();
  });

  it("is closed while the page is hidden and open while it is visible", () => {
    expect(counting.handlers).not.toBeNull();
    visibility.visible = false;
    flushSync();
    expect(counting.handlers).toBeNull();
    visibility.visible = true;
    flushSync();
    expect(counting.opened).toBe(2);
  });

  it("is closed while it is not wanted", () => {
    wanted = false;
    flushSync();
    expect(counting.handlers).toBeNull();
  });

  it("reopens after doubling pauses, and reports a lost connection until an event arrives", () => {
    const lose = () => counting.handlers?.onError?.(new BackendError({ code: "disconnected", message: "", fix: null }));
    lose();
    expect(connection.lost?.code).toBe("disconnected");
    vi.advanceTimersByTime(499);
    flushSync();
    expect(counting.opened).toBe(1);
    vi.advanceTimersByTime(1);
    flushSync();
    expect(counting.opened).toBe(2);
    lose();
    vi.advanceTimersByTime(999);
    flushSync();
    expect(counting.opened).toBe(2);
    vi.advanceTimersByTime(1);
    flushSync();
    expect(counting.opened).toBe(3);
    counting.handlers?.onEvent?.({ kind: "all", items: [] });
    expect(connection.lost).toBeNull();
  });

  it("does not reopen once it is closed", () => {
    counting.handlers?.onEnd?.();
    stop();
    vi.advanceTimersByTime(60_000);
    flushSync();
    expect(counting.opened).toBe(1);
  });
});

describe("the engine", () => {
  it("starts in steps that are complete when it runs", async () => {
    vi.useFakeTimers();
    const fixture = new FixtureBackend("stopped", 0);
    setBackend(fixture);
    const started = engine.start();
    expect(engine.operation).toMatchObject({ title: "Starting the machine", steps: [] });
    await vi.advanceTimersByTimeAsync(1000);
    expect(engine.operation?.steps.map(({ step, took }) => [step, took !== null])).toEqual([
      ["image", true],
      ["disk", false],
    ]);
    await vi.advanceTimersByTimeAsync(10_000);
    await started;
    expect(engine.operation).toBeNull();
    expect(fixture.world.machine.state).toBe("running");
    vi.useRealTimers();
  });

  it("keeps the failure of a start until it is dismissed", async () => {
    vi.useFakeTimers();
    setBackend(new FixtureBackend("space", 0));
    const refused = expect(engine.start()).rejects.toMatchObject({ code: "no-space" });
    await vi.advanceTimersByTimeAsync(10_000);
    await refused;
    expect(engine.operation?.failure?.code).toBe("no-space");
    engine.dismiss();
    expect(engine.operation).toBeNull();
    vi.useRealTimers();
  });
});

describe("a history of samples", () => {
  const sample = (networkReceived: number): ContainerSample => ({
    id: "a",
    cpuPercent: 1,
    memory: 2,
    memoryLimit: 3,
    networkReceived,
    networkSent: 0,
    diskRead: 0,
    diskWritten: 0,
    processes: 1,
  });

  it("computes rates from counters, and zero when a counter restarts", () => {
    const history = new History();
    history.add(1000, sample(500));
    history.add(3000, sample(2500));
    history.add(4000, sample(10));
    expect(history.received).toEqual([0, 1000, 0]);
  });

  it("keeps fifteen minutes", () => {
    const history = new History();
    for (let second = 0; second < 1000; second += 1) history.add(second * 1000, sample(0));
    expect([history.at.length, history.cpu.length, history.at[0]]).toEqual([900, 900, 100]);
  });
});

describe("the route", () => {
  it("is kept in the address", () => {
    route.go("volumes", "a/b c", "files");
    expect(location.hash).toBe("#/volumes/a%2Fb%20c/files");
    expect([route.view, route.selected, route.tab]).toEqual(["volumes", "a/b c", "files"]);
    route.select(null);
    expect([location.hash, route.selected, route.tab]).toEqual(["#/volumes", null, null]);
  });
});

describe("a confirmation", () => {
  it("is declined when another one opens", async () => {
    const about = { title: "", text: "", action: "", dangerous: false };
    const first = dialogs.confirm(about);
    const second = dialogs.confirm(about);
    dialogs.answer({ option: true, word: "" });
    expect(await first).toBeNull();
    expect(await second).toEqual({ option: true, word: "" });
  });
});
