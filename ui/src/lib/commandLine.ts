// The `docker run` command equivalent to the run form.
import type { ContainerRun } from "./backend";

const PLAIN = /^[A-Za-z0-9_@%+=:,./-]+$/;

/** Quotes a word for a shell if needed. */
export function quote(word: string): string {
  if (PLAIN.test(word)) return word;
  return `'${word.replaceAll("'", `'\\''`)}'`;
}

export function dockerRun(run: ContainerRun): string[] {
  const words = ["docker", "run", run.interactive ? "-dit" : "-d"];
  if (run.remove) words.push("--rm");
  if (run.name) words.push("--name", run.name);
  if (run.restart && run.restart !== "no") words.push("--restart", run.restart);
  if (run.network) words.push("--network", run.network);
  if (run.platform) words.push("--platform", run.platform);
  for (const port of run.ports) words.push("-p", port);
  for (const volume of run.volumes) words.push("-v", volume);
  for (const { name, value } of run.environment) words.push("-e", `${name}=${value}`);
  words.push(run.image || "IMAGE", ...run.command);
  return words;
}

export function commandLine(words: string[]): string {
  return words.map(quote).join(" ");
}

/** Splits text into words as a shell does, with quotes and backslashes only. Returns null while a quote is open. */
export function splitWords(text: string): string[] | null {
  const words: string[] = [];
  let word = "";
  let begun = false;
  let quoted: string | null = null;
  for (let index = 0; index < text.length; index += 1) {
    const character = text[index] as string;
    if (quoted) {
      if (character === quoted) quoted = null;
      else if (character === "\\" && quoted === '"' && index + 1 < text.length) word += text[++index];
      else word += character;
    } else if (character === "'" || character === '"') {
      quoted = character;
      begun = true;
    } else if (character === "\\" && index + 1 < text.length) {
      word += text[++index];
      begun = true;
    } else if (/\s/.test(character)) {
      if (begun) words.push(word);
      word = "";
      begun = false;
    } else {
      word += character;
      begun = true;
    }
  }
  if (quoted) return null;
  if (begun) words.push(word);
  return words;
}
