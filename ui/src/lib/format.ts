// Formats amounts, times and names.
const UNITS = ["B", "kB", "MB", "GB", "TB"];

/** In decimal units, as docker formats them: 1.2 GB. */
export function bytes(count: number): string {
  let value = count;
  let unit = 0;
  while (value >= 999.5 && unit < UNITS.length - 1) {
    value /= 1000;
    unit += 1;
  }
  const digits = unit === 0 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
  return `${Number(value.toFixed(digits))} ${UNITS[unit]}`;
}

const MEMORY_UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

/** In binary units, as `docker stats` formats memory: 512 MiB. */
export function memory(count: number): string {
  let value = count;
  let unit = 0;
  while (value >= 1023.5 && unit < MEMORY_UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const digits = unit === 0 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
  return `${Number(value.toFixed(digits))} ${MEMORY_UNITS[unit]}`;
}

export function rate(perSecond: number): string {
  return `${bytes(Math.round(perSecond))}/s`;
}

export function percent(value: number): string {
  return `${value < 9.95 ? value.toFixed(1) : Math.round(value)}%`;
}

const SPANS: [number, string, string][] = [
  [60, "second", "s"],
  [60, "minute", "min"],
  [24, "hour", "h"],
  [7, "day", "d"],
  [4.35, "week", "w"],
  [12, "month", "mo"],
  [Infinity, "year", "y"],
];

/** The largest unit that fits: "3 min ago", "in 2 h", "just now". */
export function ago(moment: number, now: number): string {
  let value = Math.abs(now - moment) / 1000;
  if (value < 5) return "just now";
  for (const [size, , short] of SPANS) {
    if (value < size) {
      const text = `${Math.floor(value)} ${short}`;
      return now >= moment ? `${text} ago` : `in ${text}`;
    }
    value /= size;
  }
  return "long ago";
}

/** "0.3 s", "12 s", "3 min 20 s", "2 h 5 min". */
export function span(milliseconds: number): string {
  const seconds = milliseconds / 1000;
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes} min ${whole % 60} s`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ${minutes % 60} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** Date and time in the user's locale. */
export function moment(milliseconds: number): string {
  return new Date(milliseconds).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
}

/** Date and time to the minute in the user's locale, for columns. */
export function minute(milliseconds: number): string {
  return new Date(milliseconds).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}

/** The twelve characters docker shows of an identifier. */
export function short(id: string): string {
  return id.replace(/^sha256:/, "").slice(0, 12);
}

export function count(number: number, one: string, many = `${one}s`): string {
  return `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
}

/** The address that opens a published port; unspecified and loopback addresses become localhost. */
export function portUrl(address: string | null, port: number): string {
  const host =
    !address || ["0.0.0.0", "::", "127.0.0.1", "::1"].includes(address)
      ? "localhost"
      : address.includes(":")
        ? `[${address}]`
        : address;
  return `${port === 443 || port === 8443 ? "https" : "http"}://${host}:${port}`;
}
