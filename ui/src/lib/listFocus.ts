// Into the list of the view by keyboard, from wherever one is.
const STEPS = ["ArrowDown", "ArrowUp", "j", "k"];

/** Gives the list the focus and the key; false if it is no key of lists or there is no list. */
export function enterList(key: string): boolean {
  const list = STEPS.includes(key) ? document.querySelector<HTMLElement>("[data-list]") : null;
  if (!list) return false;
  // A list that the detail covers takes no focus, and steps all the same.
  list.focus({ preventScroll: true });
  list.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
  return true;
}
