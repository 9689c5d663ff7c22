// Deletes unused objects of one kind: lists them first, and reports the reclaimed space afterwards.
import { bytes, count } from "../lib/format";
import { notices } from "../lib/stores/actions.svelte";
import { dialogs } from "../lib/stores/dialogs.svelte";
import { containers, images, networks, volumes } from "../lib/stores/lists.svelte";
import { backend } from "../lib/stores/page.svelte";
import { can } from "./containers/actions";
import { title } from "./images/actions";
import { label } from "./volumes/label";

interface Plan {
  /** Singular: `image`. */
  noun: string;
  question: string;
  /** What deleting them loses. */
  loss: string;
  /** Shown if there is nothing to delete. */
  nothing: string;
  items: string[];
  carryOut: () => Promise<{ removed: string[]; reclaimed: number }>;
}

async function prune({ noun, question, loss, nothing, items, carryOut }: Plan): Promise<void> {
  if (items.length === 0) {
    notices.done(nothing);
    return;
  }
  const answer = await dialogs.confirm({
    title: question,
    text: loss,
    items,
    action: `Delete ${count(items.length, noun)}`,
    dangerous: true,
  });
  if (!answer) return;
  try {
    const pruned = await carryOut();
    notices.done(
      `Deleted ${count(pruned.removed.length, noun)}` +
        (pruned.reclaimed > 0 ? `, reclaimed ${bytes(pruned.reclaimed)}` : ""),
    );
  } catch (error) {
    notices.failed(`Could not delete the ${noun}s`, error);
  }
}

export const pruneContainers = () =>
  prune({
    noun: "container",
    question: "Delete all stopped containers?",
    loss: "Data written outside volumes is lost.",
    nothing: "Every container is running: nothing to delete.",
    items: containers.items.filter((container) => can("start", container)).map((container) => container.name),
    carryOut: () => backend().call("containers.prune", {}),
  });

export function pruneImages(): Promise<void> {
  const unused = images.items.filter((image) => image.usedBy.length === 0);
  return prune({
    noun: "image",
    question: "Delete unused images?",
    loss: `This reclaims up to ${bytes(unused.reduce((sum, image) => sum + image.size - (image.shared ?? 0), 0))}.`,
    nothing: "Every image is in use: nothing to delete.",
    items: unused.map(title),
    carryOut: () => backend().call("images.prune", { all: true }),
  });
}

export const pruneVolumes = () =>
  prune({
    noun: "volume",
    question: "Delete unused volumes?",
    loss: "Everything in them is lost. This cannot be undone.",
    nothing: "Every volume is in use: nothing to delete.",
    items: volumes.items
      .filter((volume) => volume.usedBy.length === 0)
      .map((volume) => `${label(volume)}${volume.size === null ? "" : ` (${bytes(volume.size)})`}`),
    carryOut: () => backend().call("volumes.prune", { all: true }),
  });

export const pruneNetworks = () =>
  prune({
    noun: "network",
    question: "Delete unused networks?",
    loss: "Containers that need them cannot start until you create them again.",
    nothing: "Every network is in use: nothing to delete.",
    items: networks.items
      .filter((network) => !network.builtIn && network.members.length === 0)
      .map((network) => network.name),
    carryOut: () => backend().call("networks.prune", {}),
  });

/** Does not ask first, because a build recreates everything in the cache. */
export async function pruneBuildCache(): Promise<void> {
  try {
    const pruned = await backend().call("builds.pruneCache", {});
    notices.done(`Reclaimed ${bytes(pruned.reclaimed)} of build cache`);
  } catch (error) {
    notices.failed("Could not delete the build cache", error);
  }
}
