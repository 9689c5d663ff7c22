// Actions on one or more containers. Their effect shows at once; those that lose data ask first.
import type { Container } from "../../lib/backend";
import { act, copy, notices } from "../../lib/stores/actions.svelte";
import { dialogs } from "../../lib/stores/dialogs.svelte";
import { containers } from "../../lib/stores/lists.svelte";
import { backend, route } from "../../lib/stores/page.svelte";
import { count } from "../../lib/format";

type Verb = "start" | "stop" | "restart" | "kill" | "pause" | "unpause";

const VERBS: Record<Verb, { doing: string; verb: string; state: Container["state"] | null }> = {
  start: { doing: "Starting", verb: "start", state: "running" },
  stop: { doing: "Stopping", verb: "stop", state: null },
  restart: { doing: "Restarting", verb: "restart", state: null },
  kill: { doing: "Killing", verb: "kill", state: null },
  pause: { doing: "Pausing", verb: "pause", state: "paused" },
  unpause: { doing: "Resuming", verb: "resume", state: "running" },
};

export function can(verb: Verb, container: Container): boolean {
  const { state } = container;
  if (verb === "start") return state === "created" || state === "exited" || state === "dead";
  if (verb === "unpause") return state === "paused";
  if (verb === "pause") return state === "running";
  if (verb === "kill" || verb === "stop") return state === "running" || state === "paused" || state === "restarting";
  return state === "running" || state === "exited";
}

export async function apply(verb: Verb, list: Container[]): Promise<void> {
  const { doing, verb: word, state } = VERBS[verb];
  await Promise.all(
    list
      .filter((container) => can(verb, container))
      .map((container) =>
        act(
          {
            on: container.id,
            doing,
            failed: `Could not ${word} ${container.name}`,
            ...(state ? { foresee: () => containers.foresee(container.id, (before) => ({ ...before, state })) } : {}),
          },
          `container.${verb}`,
          { id: container.id },
        ),
      ),
  );
}

export async function remove(list: Container[]): Promise<void> {
  const running = list.filter((container) => can("stop", container));
  const one = list.length === 1 ? list[0] : undefined;
  const answer = await dialogs.confirm({
    title: one ? `Delete ${one.name}?` : `Delete ${count(list.length, "container")}?`,
    text: running.length
      ? `${one ? "It is" : count(running.length, "container is", "containers are")} running ` +
        "and will be stopped first. Data written outside volumes is lost."
      : "Data written outside volumes is lost. Named volumes are kept.",
    ...(one ? {} : { items: list.map((container) => container.name) }),
    action: one ? "Delete container" : `Delete ${count(list.length, "container")}`,
    dangerous: true,
    option: "Delete anonymous volumes too",
  });
  if (!answer) return;
  if (list.some((container) => container.id === route.selected)) route.select(null);
  await Promise.all(
    list.map((container) =>
      act(
        {
          on: container.id,
          doing: "Deleting",
          failed: `Could not delete ${container.name}`,
          foresee: () => containers.foresee(container.id, () => null),
        },
        "container.remove",
        { id: container.id, force: true, volumes: answer.option },
      ),
    ),
  );
}

export async function copyRunCommand(container: Container): Promise<void> {
  try {
    const detail = await backend().call("container.inspect", { id: container.id });
    await copy(detail.runCommand, "docker run");
  } catch (error) {
    notices.failed(`Could not read ${container.name}`, error);
  }
}
