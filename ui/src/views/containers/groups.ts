// Containers as rows: those of a compose project under its heading, then the others.
import type { Container } from "../../lib/backend";

interface Project {
  kind: "project";
  key: string;
  project: string;
  members: Container[];
  folded: boolean;
}

export type Row = Project | { kind: "container"; key: string; container: Container; nested: boolean };

/** A container and the text a filter searches. */
export interface Entry {
  container: Container;
  text: string;
}

// Created once: `localeCompare` with options creates a collator per comparison, which is slow for a thousand
// containers.
const collator = new Intl.Collator(undefined, { numeric: true });

const live = (container: Container) =>
  container.state === "running" || container.state === "paused" || container.state === "restarting";

/** In display order: projects first, by name; then the other containers, running ones first. */
export function ordered(all: Container[]): Entry[] {
  const project = (container: Container) => container.compose?.project;
  const order = (a: Container, b: Container) => {
    const [one, other] = [project(a), project(b)];
    if (one !== other)
      return one === undefined ? 1 : other === undefined ? -1 : collator.compare(one, other) || (one < other ? -1 : 1);
    return (one === undefined ? Number(live(b)) - Number(live(a)) : 0) || collator.compare(a.name, b.name);
  };
  return [...all].sort(order).map((container) => ({
    container,
    text: [
      container.name,
      container.image,
      container.id,
      project(container) ?? "",
      ...container.ports.map((port) => port.hostPort ?? ""),
    ]
      .join(" ")
      .toLowerCase(),
  }));
}

export function rows(all: Entry[], filter: string, runningOnly: boolean, folded: ReadonlySet<string>): Row[] {
  const words = filter.toLowerCase().split(/\s+/).filter(Boolean);
  const result: Row[] = [];
  let heading: Project | undefined;
  for (const { container, text } of all) {
    if ((runningOnly && !live(container)) || !words.every((word) => text.includes(word))) continue;
    const project = container.compose?.project;
    if (project === undefined) {
      result.push({ kind: "container", key: container.id, container, nested: false });
      continue;
    }
    if (heading?.project !== project) {
      // Matches are shown even in a folded project.
      heading = {
        kind: "project",
        key: `project:${project}`,
        project,
        members: [],
        folded: folded.has(project) && filter === "",
      };
      result.push(heading);
    }
    heading.members.push(container);
    if (!heading.folded) result.push({ kind: "container", key: container.id, container, nested: true });
  }
  return result;
}

export { live };
