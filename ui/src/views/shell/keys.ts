// Keys that work everywhere, except while the user types in a field.
import { dialogs } from "../../lib/stores/dialogs.svelte";
import { enterList } from "../../lib/listFocus";
import { route, type View } from "../../lib/stores/page.svelte";

export const SHORTCUTS: [string, string][] = [
  ["Ctrl K", "Search everything"],
  ["Ctrl 1 … 9", "Go to a view, even from a terminal"],
  ["/", "Filter the list"],
  ["↑ ↓ or j k", "Move through the list"],
  ["Enter", "Open details"],
  ["Esc", "Close details or dialog"],
  ["← →", "Switch tabs"],
  ["n", "Run a container"],
  ["?", "Show this list"],
];

function typing(target: EventTarget | null): boolean {
  return (
    target instanceof HTMLElement &&
    (target.matches("input:not([type=checkbox]), textarea, select") ||
      target.isContentEditable ||
      target.closest(".xterm, .cm-editor") !== null)
  );
}

export function keys(event: KeyboardEvent, views: readonly View[]): void {
  const control = event.ctrlKey || event.metaKey;
  if (control && event.key.toLowerCase() === "k") {
    event.preventDefault();
    dialogs.palette = !dialogs.palette;
    return;
  }
  if (control && /^[1-9]$/.test(event.key)) {
    const view = views[Number(event.key) - 1];
    if (view) {
      event.preventDefault();
      route.go(view);
    }
    return;
  }
  if (control || event.altKey || typing(event.target) || document.querySelector("dialog[open]")) return;
  if (event.key === "/") {
    event.preventDefault();
    document.querySelector<HTMLInputElement>("[data-filter]")?.focus();
  } else if (event.key === "?") {
    dialogs.shortcuts = true;
  } else if (event.key === "n") {
    event.preventDefault();
    dialogs.run = { image: "" };
  } else if (event.key === "Escape" && route.selected !== null) {
    route.select(null);
  } else if (event.target === document.body && enterList(event.key)) {
    event.preventDefault();
  }
}
