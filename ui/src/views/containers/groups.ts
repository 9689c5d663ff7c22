// Containers as rows: those of a compose project under its heading, the others by themselves.
import type { Container } from "../../lib/backend";

export type Row = { kind: "project"; key: string; project: string; members: Container[]; folded: boolean } | { kind: "container"; key: string; container: Container; nested: boolean };

function matches(container: Container, words: string[]): boolean {
  if (words.length === 0) return true;
  const text = `${container.name} ${container.image} ${container.id} ${container.compose?.project ?? ""} ${container.ports.map((port) => port.hostPort ?? "").join(" ")}`.toLowerCase();
  return words.every((word) => text.includes(word));
}

// Made once: `localeCompare` with options makes one for each comparison, which a thousand containers feel.
const collator = new Intl.Collator(undefined, { numeric: true });

const live = (container: Container) => container.state === "running" || container.state === "paused" || container.state === "restarting";

export function rows(all: Container[], filter: string, runningOnly: boolean, folded: ReadonlySet<string>): Row[] {
  const words = filter.toLowerCase().split(/\s+/).filter(Boolean);
  const shown = all.filter((container) => (!runningOnly || live(container)) && matches(container, words));
  const order = (a: Container, b: Container) => collator.compare(a.name, b.name);
  const projects = new Map<string, Container[]>();
  const single: Container[] = [];
  for (const container of shown) {
    const project = container.compose?.project;
    if (project === undefined) single.push(container);
    else if (projects.has(project)) projects.get(project)?.push(container);
    else projects.set(project, [container]);
  }
  const result: Row[] = [];
  for (const [project, members] of [...projects].sort(([a], [b]) => collator.compare(a, b))) {
    // What is looked for is shown even in a folded project.
    const hidden = folded.has(project) && filter === "";
    result.push({ kind: "project", key: `project:${project}`, project, members, folded: hidden });
    if (!hidden) for (const container of members.sort(order)) result.push({ kind: "container", key: container.id, container, nested: true });
  }
  for (const container of single.sort((a, b) => Number(live(b)) - Number(live(a)) || order(a, b))) {
    result.push({ kind: "container", key: container.id, container, nested: false });
  }
  return result;
}

export { live };
