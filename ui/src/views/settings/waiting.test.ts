import { describe, expect, test } from "vitest";

import type { Setting, TakesEffect } from "../../lib/backend";
import { noted, parts, restarts } from "./waiting";

const setting = (takesEffect: TakesEffect, waits: boolean): Setting => ({
  file: "config",
  key: "network.host_access",
  section: "Network",
  title: "",
  description: "",
  kind: { kind: "switch" },
  value: true,
  default: true,
  takesEffect,
  takesEffectNote: "",
  waits,
});

describe("marks of settings", () => {
  test("a setting waits for its own restart and no other", () => {
    const machine = setting("machineStart", true);
    const boot = setting("machineBoot", true);
    const daemon = setting("daemonStart", true);
    expect(restarts([setting("machineStart", false), setting("daemonStart", false)])).toEqual({
      machine: false,
      daemon: false,
    });
    expect(restarts([machine])).toEqual({ machine: true, daemon: false });
    expect(restarts([boot])).toEqual({ machine: true, daemon: false });
    expect(restarts([daemon])).toEqual({ machine: false, daemon: true });
    // The machine has restarted: only what waits for the daemon is left.
    expect(restarts([{ ...machine, waits: false }, daemon])).toEqual({ machine: false, daemon: true });
  });

  test("the note stays while the setting waits", () => {
    expect(noted(setting("daemonStart", true), true)).toBe(true);
    expect(noted(setting("machineStart", true), undefined)).toBe(true);
    expect(noted(setting("machineStart", false), false)).toBe(false);
  });

  test("a setting that no restart applies has its note until the change is undone", () => {
    expect(noted(setting("newMachine", false), true)).toBe(false);
    expect(noted(setting("newMachine", false), false)).toBe(true);
    expect(noted(setting("startCommand", false), false)).toBe(true);
    expect(noted(setting("startCommand", false), undefined)).toBe(false);
  });

  test("backticks mark code", () => {
    expect(parts("Run `rorqual quit`, then `x`")).toEqual([
      { text: "Run ", code: false },
      { text: "rorqual quit", code: true },
      { text: ", then ", code: false },
      { text: "x", code: true },
    ]);
  });
});
