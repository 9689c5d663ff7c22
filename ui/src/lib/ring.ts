// A ring that keeps the latest items. An item's number stays the same while it is kept.
export class Ring<T> {
  #items: T[] = [];
  #start = 0;
  #first = 0;

  constructor(readonly capacity: number) {}

  /** Number of the oldest kept item. */
  get first(): number {
    return this.#first;
  }

  /** Number of the next item. */
  get end(): number {
    return this.#first + this.#items.length;
  }

  get length(): number {
    return this.#items.length;
  }

  push(item: T): void {
    if (this.#items.length < this.capacity) {
      this.#items.push(item);
    } else {
      this.#items[this.#start] = item;
      this.#start = (this.#start + 1) % this.capacity;
      this.#first += 1;
    }
  }

  get(number: number): T | undefined {
    if (number < this.#first || number >= this.end) return undefined;
    return this.#items[(this.#start + number - this.#first) % this.capacity];
  }

  clear(): void {
    this.#first = this.end;
    this.#items = [];
    this.#start = 0;
  }
}
