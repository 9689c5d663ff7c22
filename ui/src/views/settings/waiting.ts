// Which changed settings wait, and for what.
import type { Setting, SettingValue } from "../../lib/backend";

/** What the waiting settings need before they take effect. */
export interface Restarts {
  machine: boolean;
  daemon: boolean;
}

export function restarts(settings: Setting[]): Restarts {
  const waiting = settings.filter((setting) => setting.waits);
  return {
    machine: waiting.some(({ takesEffect }) => takesEffect === "machineStart" || takesEffect === "machineBoot"),
    daemon: waiting.some(({ takesEffect }) => takesEffect === "daemonStart"),
  };
}

/**
 * Whether to show when a setting takes effect. A setting that a restart applies has the note while it waits for that
 * restart; any other has it while its value differs from `first`, its value when the page opened.
 */
export function noted(setting: Setting, first: SettingValue | undefined): boolean {
  if (setting.takesEffect === "newMachine" || setting.takesEffect === "startCommand") {
    return first !== undefined && setting.value !== first;
  }
  return setting.waits;
}

/** The parts of a text; every second one stood in backticks. */
export function parts(text: string): { text: string; code: boolean }[] {
  return text
    .split("`")
    .map((part, index) => ({ text: part, code: index % 2 === 1 }))
    .filter((part) => part.text !== "");
}
