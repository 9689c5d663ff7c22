// Looking for text in a ring of log lines: numbers of the lines that have it.
import { plain } from "./ansi";
import type { LogLine } from "./backend";
import type { Ring } from "./ring";

export function findLines(lines: Ring<LogLine>, text: string): number[] {
  const wanted = text.toLowerCase();
  const found: number[] = [];
  if (wanted === "") return found;
  for (let number = lines.first; number < lines.end; number += 1) {
    const line = lines.get(number);
    if (line && plain(line.text).toLowerCase().includes(wanted)) found.push(number);
  }
  return found;
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
