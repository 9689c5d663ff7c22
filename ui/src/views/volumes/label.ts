import type { Volume } from "../../lib/backend";

/** A volume's name; for an anonymous volume, its first twelve characters. */
export const label = (volume: Volume): string => (volume.anonymous ? volume.name.slice(0, 12) : volume.name);
