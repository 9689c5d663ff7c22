// Chooses the page's backend: the desktop application's, that of `rorqual web`, or made-up data for development and
// pictures.
import type { Backend } from "./backend";
import { HttpBackend } from "./http";

export * from "./backend";

export async function chooseBackend(): Promise<Backend> {
  const scenario = new URLSearchParams(location.search).get("fixtures");
  if (scenario !== null && (import.meta.env.DEV || import.meta.env.VITE_FIXTURES)) {
    const { FixtureBackend } = await import("./fixtures");
    return new FixtureBackend(scenario);
  }
  if ("__TAURI_INTERNALS__" in window) {
    const { TauriBackend } = await import("./tauri");
    return new TauriBackend();
  }
  return new HttpBackend();
}
