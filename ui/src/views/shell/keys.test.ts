import { afterEach, describe, expect, it, vi } from "vitest";

import { dialogs } from "../../lib/stores/dialogs.svelte";
import { route, VIEWS } from "../../lib/stores/page.svelte";
import { keys } from "./keys";

window.addEventListener("keydown", (event) => keys(event, VIEWS));

function press(key: string, at: Element = document.body, more: KeyboardEventInit = {}): KeyboardEvent {
  const event = new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true, ...more });
  at.dispatchEvent(event);
  return event;
}

afterEach(() => {
  document.body.replaceChildren();
  dialogs.run = null;
  dialogs.shortcuts = false;
  dialogs.palette = false;
  route.go("containers");
});

describe("keys", () => {
  it("open views by number and the palette, even from a field", () => {
    document.body.innerHTML = "<input>";
    const input = document.querySelector("input") as HTMLInputElement;
    press("5", input, { ctrlKey: true });
    expect(route.view).toBe("builds");
    press("k", input, { metaKey: true });
    expect(dialogs.palette).toBe(true);
  });

  it("do nothing while the user types", () => {
    document.body.innerHTML = `<input><textarea></textarea><div class="xterm"><span></span></div>`;
    for (const place of document.querySelectorAll("input, textarea, span"))
      for (const key of ["n", "?", "/"]) expect(press(key, place).defaultPrevented).toBe(false);
    expect([dialogs.run, dialogs.shortcuts]).toEqual([null, false]);
  });

  it("do nothing behind a dialog", () => {
    document.body.innerHTML = "<dialog open></dialog>";
    press("n");
    expect(dialogs.run).toBeNull();
  });

  it("reach the filter and the list from anywhere", () => {
    document.body.innerHTML = `<input data-filter><div data-list tabindex="0"></div>`;
    const list = document.querySelector("[data-list]") as HTMLElement;
    const stepped = vi.fn();
    list.addEventListener("keydown", (event) => stepped(event.key));
    expect(press("j").defaultPrevented).toBe(true);
    expect(document.activeElement).toBe(list);
    expect(stepped.mock.calls).toEqual([["j"]]);
    press("/", list);
    expect(document.activeElement).toBe(document.querySelector("input"));
  });

  it("close the details", () => {
    route.go("images", "one");
    press("Escape");
    expect([route.view, route.selected]).toEqual(["images", null]);
  });
});
