// Terminal colours in log lines. Drops every escape sequence except colours and weights.
export interface Span {
  text: string;
  /** CSS classes, such as `ansi-red ansi-bold`; empty for plain text. */
  style: string;
}

const COLOURS = ["black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"];
// CSI sequences, whole OSC sequences, other two-character escapes, and lone control characters.
// eslint-disable-next-line no-control-regex
const ESCAPES = /\x1b\[([0-9;:]*)([@-~])|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[@-Z\\-_]|[\x00-\x08\x0b-\x1f\x7f]/g;

interface Style {
  colour: string;
  bold: boolean;
  dim: boolean;
}

/** Returns the text without escape sequences. */
export function plain(text: string): string {
  // eslint-disable-next-line no-control-regex -- the expression looks for control characters
  return text.includes("\x1b") || /[\x00-\x08\x0b-\x1f\x7f]/.test(text) ? text.replace(ESCAPES, "") : text;
}

export function spans(text: string): Span[] {
  const result: Span[] = [];
  const style: Style = { colour: "", bold: false, dim: false };
  let from = 0;
  const push = (to: number) => {
    if (to > from) result.push({ text: text.slice(from, to), style: classes(style) });
  };
  for (const match of text.matchAll(ESCAPES)) {
    push(match.index);
    from = match.index + match[0].length;
    if (match[2] === "m") apply(style, match[1] ?? "");
  }
  push(text.length);
  return result;
}

function apply(style: Style, parameters: string): void {
  const codes = parameters === "" ? [0] : parameters.split(/[;:]/).map(Number);
  for (let index = 0; index < codes.length; index += 1) {
    const code = codes[index] as number;
    if (code === 0) Object.assign(style, { colour: "", bold: false, dim: false });
    else if (code === 1) style.bold = true;
    else if (code === 2) style.dim = true;
    else if (code === 22) style.bold = style.dim = false;
    else if (code >= 30 && code <= 37) style.colour = COLOURS[code - 30] as string;
    else if (code >= 90 && code <= 97) style.colour = `bright-${COLOURS[code - 90] as string}`;
    else if (code === 39) style.colour = "";
    else if (code === 38 || code === 48) {
      // Of 256 colours, 0 to 15 map to the sixteen named ones; others and true colours stay plain.
      if (codes[index + 1] === 5) {
        const number = codes[index + 2] ?? -1;
        if (code === 38 && number >= 0 && number < 16)
          style.colour = number < 8 ? (COLOURS[number] as string) : `bright-${COLOURS[number - 8] as string}`;
        index += 2;
      } else if (codes[index + 1] === 2) index += 4;
    }
  }
}

function classes(style: Style): string {
  const all = [style.colour && `ansi-${style.colour}`, style.bold && "ansi-bold", style.dim && "ansi-dim"];
  return all.filter(Boolean).join(" ");
}
