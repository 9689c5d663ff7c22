import type { MachineState } from "../../lib/backend";

type Tone = "good" | "warn" | "bad" | "off" | "busy";

const LOOKS: Record<MachineState, { tone: Tone; label: string }> = {
  stopped: { tone: "off", label: "Stopped" },
  starting: { tone: "busy", label: "Starting" },
  running: { tone: "good", label: "Running" },
  degraded: { tone: "warn", label: "Not responding" },
  stopping: { tone: "busy", label: "Stopping" },
  failed: { tone: "bad", label: "Failed" },
  suspending: { tone: "busy", label: "Suspending" },
  suspended: { tone: "off", label: "Suspended" },
};

export function machineTone(state: MachineState): { tone: Tone; label: string } {
  return LOOKS[state];
}
