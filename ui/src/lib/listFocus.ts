// Moves the keyboard focus into the view's list.
const STEPS = ["ArrowDown", "ArrowUp", "j", "k"];

/** Focuses the list and passes it the key. Returns false if lists do not use the key or the view has no list. */
export function enterList(key: string): boolean {
  const list = STEPS.includes(key) ? document.querySelector<HTMLElement>("[data-list]") : null;
  if (!list) return false;
  // A list covered by the details cannot take the focus, but still handles the key.
  list.focus({ preventScroll: true });
  list.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
  return true;
}
