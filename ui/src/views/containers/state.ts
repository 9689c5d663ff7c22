import type { Container } from "../../lib/backend";

export type Tone = "good" | "warn" | "bad" | "off" | "busy";

/** How a container's state looks and reads. */
export function appearance(container: Container, doing: string | undefined): { tone: Tone; text: string } {
  if (doing) return { tone: "busy", text: doing };
  const { state, health, exitStatus } = container;
  if (state === "running") {
    if (health === "unhealthy") return { tone: "bad", text: "Unhealthy" };
    if (health === "starting") return { tone: "busy", text: "Running, health check pending" };
    return { tone: "good", text: health === "healthy" ? "Healthy" : "Running" };
  }
  if (state === "paused") return { tone: "warn", text: "Paused" };
  if (state === "restarting") return { tone: "busy", text: "Restarting" };
  if (state === "removing") return { tone: "busy", text: "Deleting" };
  if (state === "dead") return { tone: "bad", text: "Dead" };
  if (state === "created") return { tone: "off", text: "Created" };
  return exitStatus ? { tone: "bad", text: `Exited (${exitStatus})` } : { tone: "off", text: "Exited" };
}
