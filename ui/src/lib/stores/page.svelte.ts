// State shared by every part of the page: the backend, visibility, the current view and the theme.
import type { Backend } from "../backend";

let current: Backend | null = null;

export function setBackend(backend: Backend): void {
  current = backend;
}

export function backend(): Backend {
  if (!current) throw new Error("the page has no backend yet");
  return current;
}

/** Whether the page is visible. While it is hidden, every stream is closed. */
class Visibility {
  visible = $state(document.visibilityState !== "hidden");

  constructor() {
    document.addEventListener("visibilitychange", () => {
      this.visible = document.visibilityState !== "hidden";
    });
  }
}

export const visibility = new Visibility();

export const VIEWS = [
  "containers",
  "images",
  "volumes",
  "networks",
  "builds",
  "machines",
  "registries",
  "settings",
  "diagnose",
] as const;
export type View = (typeof VIEWS)[number];

/** The current view, kept in the address after `#`: `#/containers/<selected>/<tab>`. */
class Route {
  view = $state<View>("containers");
  selected = $state<string | null>(null);
  tab = $state<string | null>(null);

  constructor() {
    this.#read();
    window.addEventListener("hashchange", () => this.#read());
  }

  go(view: View, selected: string | null = null, tab: string | null = null): void {
    const parts = [view, selected, tab].filter((part): part is string => part !== null);
    location.hash = `/${parts.map(encodeURIComponent).join("/")}`;
    // At once, because the caller may read the route before the browser fires its event.
    this.#read();
  }

  select(selected: string | null): void {
    this.go(this.view, selected, selected === null ? null : this.tab);
  }

  #read(): void {
    const [view, selected, tab] = location.hash.replace(/^#\/?/, "").split("/").map(decodeURIComponent);
    this.view = VIEWS.find((known) => known === view) ?? "containers";
    this.selected = selected || null;
    this.tab = tab || null;
  }
}

export const route = new Route();

export type Theme = "system" | "light" | "dark";
const THEME_KEY = "rorqual.theme";

class Appearance {
  theme = $state<Theme>("system");
  #systemDark = $state(false);
  /** Whether the page is dark, by the user's choice or the system's. */
  dark = $derived(this.theme === "dark" || (this.theme === "system" && this.#systemDark));

  constructor() {
    const system = matchMedia("(prefers-color-scheme: dark)");
    this.#systemDark = system.matches;
    system.addEventListener("change", () => {
      this.#systemDark = system.matches;
    });
    const kept = localStorage.getItem(THEME_KEY);
    if (kept === "light" || kept === "dark") this.choose(kept);
  }

  choose(theme: Theme): void {
    this.theme = theme;
    localStorage.setItem(THEME_KEY, theme);
    if (theme === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
  }
}

export const appearance = new Appearance();
