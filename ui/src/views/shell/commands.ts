// Everything the palette finds: choosing an object opens its details, choosing an action runs it.
import { engine } from "../../lib/stores/engine.svelte";
import { dialogs } from "../../lib/stores/dialogs.svelte";
import { containers, images, networks, volumes } from "../../lib/stores/lists.svelte";
import { appearance, route, VIEWS } from "../../lib/stores/page.svelte";
import { apply, can, remove } from "../containers/actions";
import { title } from "../images/actions";
import { pruneBuildCache, pruneContainers, pruneImages, pruneNetworks, pruneVolumes } from "../prune";

export interface Command {
  id: string;
  title: string;
  kind: "view" | "action" | "container" | "image" | "volume" | "network";
  run: () => void;
}

const quietly = (task: Promise<void>) => void task.catch(() => undefined);

export function commands(): Command[] {
  const all: Command[] = [];
  const add = (id: string, title: string, kind: Command["kind"], run: () => void) => all.push({ id, title, kind, run });
  add("run", "Run a container", "action", () => (dialogs.run = { image: "" }));
  add("pull", "Pull an image", "action", () => (dialogs.pull = { reference: "" }));
  if (engine.running) {
    add("machine:stop", "Stop the machine", "action", () => quietly(engine.stop()));
    add("machine:restart", "Restart the machine", "action", () => quietly(engine.restart()));
    add("prune:containers", "Delete stopped containers", "action", () => void pruneContainers());
    add("prune:images", "Delete unused images", "action", () => void pruneImages());
    add("prune:volumes", "Delete unused volumes", "action", () => void pruneVolumes());
    add("prune:networks", "Delete unused networks", "action", () => void pruneNetworks());
    add("prune:cache", "Delete the build cache", "action", () => void pruneBuildCache());
  } else add("machine:start", "Start the machine", "action", () => quietly(engine.start()));
  for (const view of VIEWS) add(`view:${view}`, `Go to ${view}`, "view", () => route.go(view));
  add("theme:dark", "Use dark appearance", "action", () => appearance.choose("dark"));
  add("theme:light", "Use light appearance", "action", () => appearance.choose("light"));
  add("theme:system", "Use system appearance", "action", () => appearance.choose("system"));
  add("shortcuts", "Keyboard shortcuts", "action", () => (dialogs.shortcuts = true));
  for (const container of containers.items) {
    const { id, name } = container;
    add(`container:${id}`, name, "container", () => route.go("containers", id));
    add(`logs:${id}`, `Logs of ${name}`, "action", () => route.go("containers", id, "logs"));
    if (container.state === "running")
      add(`terminal:${id}`, `Terminal in ${name}`, "action", () => route.go("containers", id, "terminal"));
    if (can("start", container)) add(`start:${id}`, `Start ${name}`, "action", () => void apply("start", [container]));
    if (can("stop", container)) add(`stop:${id}`, `Stop ${name}`, "action", () => void apply("stop", [container]));
    if (can("restart", container))
      add(`restart:${id}`, `Restart ${name}`, "action", () => void apply("restart", [container]));
    add(`delete:${id}`, `Delete ${name}`, "action", () => void remove([container]));
  }
  for (const image of images.items) {
    add(`image:${image.id}`, title(image), "image", () => route.go("images", image.id));
    add(`run:${image.id}`, `Run ${title(image)}`, "action", () => (dialogs.run = { image: image.tags[0] ?? image.id }));
  }
  for (const { name } of volumes.items) add(`volume:${name}`, name, "volume", () => route.go("volumes", name));
  for (const { id, name } of networks.items) add(`network:${id}`, name, "network", () => route.go("networks", id));
  return all;
}

/**
 * The commands that contain every word, best first: titles that begin with it, then titles with a word that does, then
 * the rest; objects before actions.
 */
export function rank(all: Command[], query: string): Command[] {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length === 0) return all;
  const scored: { command: Command; score: number }[] = [];
  for (const command of all) {
    const text = command.title.toLowerCase();
    let score = command.kind === "action" ? 0.5 : 0;
    let every = true;
    for (const word of words) {
      const at = text.indexOf(word);
      if (at < 0) {
        every = false;
        break;
      }
      score += at === 0 ? 0 : /[^a-z0-9]/.test(text[at - 1] ?? "") ? 1 : 2;
    }
    if (every) scored.push({ command, score: score + text.length / 1000 });
  }
  return scored.sort((a, b) => a.score - b.score).map(({ command }) => command);
}
