// Looking for text in a ring of log lines: numbers of the lines that have it.
import { plain } from "./ansi";
import type { LogLine } from "./backend";
import type { Ring } from "./ring";

/**
 * A line with its text as it is searched: taking the colours out once, as it comes, makes a search of 100,000 lines
 * quick.
 */
export interface KeptLine extends LogLine {
  bare: string;
}

export function kept(line: LogLine): KeptLine {
  return { ...line, bare: plain(line.text) };
}

/** Whether a line has the text, whatever its case and colours. */
export function contains(text: string): (line: KeptLine) => boolean {
  // An expression without case needs no copy of each line in small letters.
  const wanted = new RegExp(text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"), "i");
  return (line) => wanted.test(line.bare);
}

/** Numbers of the lines of a ring that fit; a line is looked at once, however often one asks. */
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
    // A new array: whoever draws it sees that it is another.
    return [...this.#numbers];
  }
}

/** Cuts plain text where `wanted` is found: every second piece is a hit. */
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
