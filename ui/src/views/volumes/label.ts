import type { Volume } from "../../lib/backend";

/** A volume's name; of one that was given none only as much as people compare. */
export const label = (volume: Volume): string => (volume.anonymous ? volume.name.slice(0, 12) : volume.name);
