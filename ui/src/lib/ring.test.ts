import { describe, expect, it } from "vitest";

import { Chosen, contains, kept, type KeptLine, pieces } from "./logSearch";
import { Ring } from "./ring";

function ring(capacity: number, count: number): Ring<number> {
  const made = new Ring<number>(capacity);
  for (let number = 0; number < count; number += 1) made.push(number);
  return made;
}

describe("a ring", () => {
  it("keeps the latest items under their original numbers", () => {
    const kept = ring(3, 8);
    expect([kept.first, kept.end, kept.length]).toEqual([5, 8, 3]);
    expect([4, 5, 6, 7, 8].map((number) => kept.get(number))).toEqual([undefined, 5, 6, 7, undefined]);
  });

  it("keeps counting after it was cleared", () => {
    const kept = ring(3, 4);
    kept.clear();
    kept.push(40);
    expect([kept.first, kept.end, kept.get(4)]).toEqual([4, 5, 40]);
  });

  it("refills after it was cleared in mid-round", () => {
    const kept = ring(3, 5);
    kept.clear();
    for (const item of [10, 11, 12, 13]) kept.push(item);
    expect([kept.first, kept.get(6), kept.get(7), kept.get(8)]).toEqual([6, 11, 12, 13]);
  });
});

describe("searching a log", () => {
  const line = (text: string) => kept({ at: null, error: false, text });

  it("finds text that colours split, ignoring case", () => {
    const lines = new Ring<KeptLine>(2);
    for (const text of ["needle (gone by now)", "a NEE\x1b[31mdle", "hay"]) lines.push(line(text));
    expect(new Chosen(lines, contains("Needle")).numbers()).toEqual([1]);
  });

  it("treats characters of expressions literally", () => {
    expect(contains("a.b (c)*")(line("see a.b (c)*"))).toBe(true);
    expect(contains("a.b")(line("aXb"))).toBe(false);
  });

  it("examines each line once, forgets dropped lines, and finds new ones", () => {
    const lines = new Ring<KeptLine>(3);
    const asked: string[] = [];
    const chosen = new Chosen(lines, ({ text }) => asked.push(text) > 0 && text.startsWith("x"));
    for (const text of ["x0", "y1", "x2"]) lines.push(line(text));
    expect(chosen.numbers()).toEqual([0, 2]);
    lines.push(line("x3"));
    expect(chosen.numbers()).toEqual([2, 3]);
    expect(asked).toEqual(["x0", "y1", "x2", "x3"]);
    lines.clear();
    expect(chosen.numbers()).toEqual([]);
    lines.push(line("x4"));
    expect(chosen.numbers()).toEqual([4]);
  });

  it("splits a line so that every second piece is a match", () => {
    expect(pieces("aXbxc", "x")).toEqual(["a", "X", "b", "x", "c"]);
    expect(pieces("xx", "x")).toEqual(["", "x", "", "x", ""]);
    expect(pieces("abc", "x")).toEqual(["abc"]);
    expect(pieces("abc", "")).toEqual(["abc"]);
  });
});
