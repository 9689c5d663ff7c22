// Which element of a long list shows which item. An element whose item went out of sight shows the next item that comes
// in sight, so that scrolling makes and removes none. An item keeps its element for as long as it is in sight or has
// the keyboard in it, also where its place changes.

/** An element of the list and what it shows. */
export class Slot<T> {
  item: T;
  /** Place of its item among all. */
  index: number;
  /** Kept for later, out of sight. */
  idle: boolean;
  /**
   * Nothing in it can be reached. An idle one becomes so at rest only: each change is paid for with the style of all
   * that is in it.
   */
  hidden: boolean;
  /** Of its item. */
  key: string;
  element: HTMLElement | undefined;

  constructor(
    readonly id: number,
    readonly kind: string,
    key: string,
    item: T,
    index: number,
  ) {
    this.key = key;
    this.item = $state.raw(item);
    this.index = $state(index);
    this.idle = $state(false);
    this.hidden = $state(false);
  }

  show(key: string, item: T, index: number): void {
    this.key = key;
    this.item = item;
    this.index = index;
    this.idle = false;
    this.hidden = false;
  }
}

export interface Range {
  /** The first and the one after the last. */
  from: number;
  to: number;
}

export class Slots<T> {
  /** In the order they were made. */
  all = $state.raw<Slot<T>[]>([]);
  #next = 0;

  constructor(
    readonly keyOf: (item: T) => string,
    /** Items of different kinds look too different for one element to change from one to the other. */
    readonly kindOf: (item: T) => string,
  ) {}

  /**
   * Shows the items of `range`, and that of `held` (the slot with the keyboard in it) wherever it is. If that item is
   * gone, so is its element: the next key would otherwise meet another item.
   */
  fill(items: readonly T[], range: Range, held: Slot<T> | null): void {
    const wanted = new Map<string, number>();
    for (let index = range.from; index < range.to; index += 1) wanted.set(this.keyOf(items[index] as T), index);
    if (held && !wanted.has(held.key)) {
      const index = items.findIndex((item) => this.keyOf(item) === held.key);
      if (index >= 0) wanted.set(held.key, index);
    }
    const free = new Map<string, Slot<T>[]>();
    let gone: Slot<T> | null = null;
    for (const slot of this.all) {
      const index = wanted.get(slot.key);
      if (index !== undefined) {
        slot.show(slot.key, items[index] as T, index);
        wanted.delete(slot.key);
      } else if (slot === held) {
        gone = slot;
      } else {
        const same = free.get(slot.kind);
        if (!same) free.set(slot.kind, [slot]);
        // A hidden one costs more to show: it is taken last.
        else if (slot.hidden) same.unshift(slot);
        else same.push(slot);
      }
    }
    const made: Slot<T>[] = [];
    for (const [key, index] of wanted) {
      const item = items[index] as T;
      const kind = this.kindOf(item);
      const slot = free.get(kind)?.pop();
      if (slot) slot.show(key, item, index);
      else made.push(new Slot(this.#next++, kind, key, item, index));
    }
    for (const slots of free.values()) for (const slot of slots) slot.idle = true;
    if (made.length || gone) this.all = [...this.all.filter((slot) => slot !== gone), ...made];
  }

  /** The slot that has `node` in its element. */
  holding(node: Node | null): Slot<T> | null {
    return this.all.find((slot) => slot.element?.contains(node)) ?? null;
  }

  /**
   * For who goes through them by keyboard or screen reader: hides the idle and puts the others' elements in the order
   * of their items. That of `held` stays where it is: moved, it would lose the keyboard.
   */
  settle(held: Slot<T> | null): void {
    for (const slot of this.all) slot.hidden = slot.idle;
    const shown = this.all.filter((slot) => !slot.idle).sort((one, other) => one.index - other.index);
    // Without one, that in the middle: after a short way up or down it is among the many that are in order already.
    const fixed = held ? shown.indexOf(held) : shown.length >> 1;
    const elements = shown.map((slot) => slot.element);
    for (let at = fixed; at + 1 < elements.length; at += 1) {
      const [one, next] = [elements[at], elements[at + 1]];
      if (one && next && one.nextElementSibling !== next) one.after(next);
    }
    for (let at = fixed; at > 0; at -= 1) {
      const [one, before] = [elements[at], elements[at - 1]];
      if (one && before && one.previousElementSibling !== before) one.before(before);
    }
  }
}
