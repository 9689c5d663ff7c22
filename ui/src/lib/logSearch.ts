// Searches a ring of log lines and returns the numbers of matching lines.
import { plain } from "./ansi";
import type { LogLine } from "./backend";
import type { Ring } from "./ring";

/** A line with its text without colours, stripped once on arrival so that searching 100,000 lines is fast. */
export interface KeptLine extends LogLine {
  bare: string;
}

export function kept(line: LogLine): KeptLine {
  return { ...line, bare: plain(line.text) };
}

/** Returns a predicate that finds the text, ignoring case and colours. */
export function contains(text: string): (line: KeptLine) => boolean {
  // A case-insensitive expression avoids a lower-case copy of each line.
  const wanted = new RegExp(text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"), "i");
  return (line) => wanted.test(line.bare);
}

/** Numbers of the matching lines of a ring. Each line is examined once. */
export class Chosen {
  #numbers: number[] = [];
  #end: number;

  constructor(
    private readonly lines: Ring<KeptLine>,
    private readonly fits: (line: KeptLine) => boolean,
  ) {
    this.#end = lines.first;
  }

  numbers(): number[] {
    const { lines } = this;
    const gone = this.#numbers.findIndex((number) => number >= lines.first);
    this.#numbers = gone < 0 ? [] : this.#numbers.slice(gone);
    for (let number = Math.max(this.#end, lines.first); number < lines.end; number += 1) {
      const line = lines.get(number);
      if (line && this.fits(line)) this.#numbers.push(number);
    }
    this.#end = lines.end;
    // A new array, so that a comparison notices the change.
    return [...this.#numbers];
  }
}

/** Splits plain text around `wanted`: every second piece is a match. */
export function pieces(text: string, wanted: string): string[] {
  if (wanted === "") return [text];
  const result: string[] = [];
  const low = text.toLowerCase();
  const find = wanted.toLowerCase();
  let from = 0;
  for (let at = low.indexOf(find); at >= 0; at = low.indexOf(find, from)) {
    result.push(text.slice(from, at), text.slice(at, at + find.length));
    from = at + find.length;
  }
  result.push(text.slice(from));
  return result;
}
