// Assigns the elements of a long list to items. An element whose item leaves the view shows the next item that enters
// it, so scrolling creates and removes no elements. An item keeps its element while it is visible or focused, even if
// its position changes.

/** An element of the list and the item it shows. */
export class Slot<T> {
  item: T;
  /** Index of its item in the list. */
  index: number;
  /** Unused and out of view, kept for later. */
  idle: boolean;
  /**
   * Unreachable by keyboard and screen readers. Idle slots become hidden only when scrolling stops, because each change
   * recalculates the style of the slot's whole content.
   */
  hidden: boolean;
  /** Key of its item. */
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
  /** First index, and the index after the last. */
  from: number;
  to: number;
}

export class Slots<T> {
  /** In order of creation. */
  all = $state.raw<Slot<T>[]>([]);
  #next = 0;

  constructor(
    readonly keyOf: (item: T) => string,
    /** Items of different kinds are too different to share an element. */
    readonly kindOf: (item: T) => string,
  ) {}

  /**
   * Shows the items of `range`, and the item of `held` (the focused slot) wherever it is. If that item is gone, its
   * element is removed, because the next key press would otherwise reach another item.
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
        // Showing a hidden slot costs more, so it is taken last.
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

  /** Returns the slot whose element contains `node`. */
  holding(node: Node | null): Slot<T> | null {
    return this.all.find((slot) => slot.element?.contains(node)) ?? null;
  }

  /**
   * For keyboard and screen reader users: hides idle slots and puts the other elements in the order of their items. The
   * element of `held` does not move, because moving it would lose the focus.
   */
  settle(held: Slot<T> | null): void {
    for (const slot of this.all) slot.hidden = slot.idle;
    const shown = this.all.filter((slot) => !slot.idle).sort((one, other) => one.index - other.index);
    // Without `held`, the middle one is fixed: after a short scroll it is among the many that are already in order.
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
