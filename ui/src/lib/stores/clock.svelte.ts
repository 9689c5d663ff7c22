// The current time for rows ("3 min ago"). It advances every ten seconds, and only while the page is visible.
import { visibility } from "./page.svelte";

const STEP = 10_000;

class Clock {
  now = $state(Date.now());

  follow(): void {
    $effect(() => {
      if (!visibility.visible) return;
      this.now = Date.now();
      const timer = setInterval(() => {
        this.now = Date.now();
      }, STEP);
      return () => clearInterval(timer);
    });
  }
}

export const clock = new Clock();
