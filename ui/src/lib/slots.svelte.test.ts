import { describe, expect, it } from "vitest";

import { type Slot, Slots } from "./slots.svelte";

const letters = (text: string) => [...text];

/** Slots with elements, as a list has them: what is new is put at the end. */
class List {
  readonly slots = new Slots<string>(
    (item) => item,
    (item) => (item === item.toUpperCase() ? "heading" : "row"),
  );
  readonly place = document.createElement("div");

  fill(items: string, from: number, to: number, held: Slot<string> | null = null) {
    this.slots.fill(letters(items), { from, to }, held);
    for (const element of [...this.place.children])
      if (!this.slots.all.some((slot) => slot.element === element)) element.remove();
    for (const slot of this.slots.all) {
      if (slot.element) continue;
      slot.element = document.createElement("button");
      this.place.append(slot.element);
    }
  }

  /** The slots in the order of their items. */
  get shown() {
    return this.slots.all.filter((slot) => !slot.idle).sort((one, other) => one.index - other.index);
  }

  get text() {
    return this.shown.map((slot) => slot.item).join("");
  }

  /** What one meets who goes through the elements. */
  get met() {
    return [...this.place.children]
      .map((element) => this.slots.holding(element))
      .map((slot) => (slot && !slot.hidden ? slot.item : ""))
      .join("");
  }

  at(item: string): Slot<string> {
    const slot = this.shown.find((one) => one.item === item);
    if (!slot) throw new Error(`${item} is not shown`);
    return slot;
  }
}

describe("slots of a list", () => {
  it("reuses the elements of items that left for items that arrived, and keeps the others", () => {
    const list = new List();
    list.fill("abcdefgh", 0, 4);
    const before = list.slots.all;
    const [a, c] = [list.at("a"), list.at("c")];
    list.fill("abcdefgh", 1, 5);
    expect(list.text).toBe("bcde");
    expect(list.slots.all).toBe(before);
    expect(list.at("c")).toBe(c);
    expect(list.at("e")).toBe(a);
  });

  it("keeps an item's element when the item moves, and shows its new state", () => {
    const slots = new Slots<{ id: string; state: string }>(
      (item) => item.id,
      () => "",
    );
    slots.fill(
      [
        { id: "a", state: "running" },
        { id: "b", state: "running" },
      ],
      { from: 0, to: 2 },
      null,
    );
    const [a, b] = slots.all;
    slots.fill(
      [
        { id: "b", state: "exited" },
        { id: "a", state: "running" },
      ],
      { from: 0, to: 2 },
      null,
    );
    expect([a?.item.id, a?.index, b?.item.id, b?.index]).toEqual(["a", 1, "b", 0]);
    expect(b?.item.state).toBe("exited");
  });

  it("does not use an element for an item of another kind", () => {
    const list = new List();
    list.fill("AbcDef", 0, 3);
    const heading = list.at("A");
    list.fill("AbcDef", 1, 4);
    expect(list.at("D")).toBe(heading);
    list.fill("AbcDef", 4, 6);
    expect(heading.idle).toBe(true);
    expect(list.text).toBe("ef");
  });

  it("keeps the focused item in its element, however far it is out of view", () => {
    const list = new List();
    list.fill("abcdefgh", 0, 3);
    const held = list.at("b");
    list.fill("abcdefgh", 5, 8, held);
    expect(held.item).toBe("b");
    expect(list.text).toBe("bfgh");
    list.fill("abcdefgh", 5, 8);
    expect(list.text).toBe("fgh");
  });

  it("removes the element when the focused item is gone", () => {
    const list = new List();
    list.fill("abcdef", 0, 3);
    const held = list.at("b");
    list.fill("acdef", 0, 3, held);
    expect(list.text).toBe("acd");
    expect(held.element?.isConnected).toBe(false);
  });

  it("shows fewer and then more items without creating elements", () => {
    const list = new List();
    list.fill("abcdef", 0, 5);
    const before = list.slots.all;
    list.fill("c", 0, 1);
    list.slots.settle(null);
    expect([list.text, list.met]).toEqual(["c", "c"]);
    list.fill("abcdef", 0, 5);
    expect(list.slots.all).toBe(before);
    expect(list.text).toBe("abcde");
    expect(list.slots.all.some((slot) => slot.hidden)).toBe(false);
  });

  it("puts the elements in order when scrolling stops", () => {
    const list = new List();
    for (const [from, to] of [
      [0, 5],
      [2, 7],
      [1, 6],
      [9, 14],
      [4, 9],
    ] as const) {
      list.fill("abcdefghijklmn", from, to);
      list.slots.settle(null);
      expect(list.met).toBe("abcdefghijklmn".slice(from, to));
    }
  });

  it("moves only new elements after a short scroll", () => {
    const list = new List();
    const moved = (from: number) => {
      list.fill("abcdefghijklmn", from, from + 8);
      const seen = new MutationObserver(() => undefined);
      seen.observe(list.place, { childList: true });
      list.slots.settle(null);
      return seen.takeRecords().reduce((sum, record) => sum + record.addedNodes.length, 0);
    };
    list.fill("abcdefghijklmn", 0, 8);
    expect([moved(2), moved(0)]).toEqual([2, 2]);
  });

  it("keeps the focus when it reorders the elements", () => {
    const list = new List();
    document.body.append(list.place);
    list.fill("abcdefghijkl", 0, 4);
    const held = list.at("d");
    held.element?.focus();
    list.fill("abcdefghijkl", 8, 12, held);
    list.slots.settle(held);
    expect(list.met).toBe("dijkl");
    expect(document.activeElement).toBe(held.element);
    list.place.remove();
  });
});
