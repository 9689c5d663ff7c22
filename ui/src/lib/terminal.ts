// xterm in the page's colours, connected to a byte stream.
import { FitAddon } from "@xterm/addon-fit";
import { Terminal } from "@xterm/xterm";
import "@xterm/xterm/css/xterm.css";

import type { BackendError, Stream, StreamHandlers, TerminalSize } from "./backend";

type TerminalStream = "container.terminal" | "machine.shell";

export interface TerminalSession {
  focus(): void;
  dispose(): void;
}

export interface TerminalNews {
  onExit(status: number): void;
  onError(error: BackendError): void;
}

function colours() {
  const style = getComputedStyle(document.documentElement);
  const of = (name: string) => style.getPropertyValue(name).trim();
  return {
    background: of("--code"),
    foreground: of("--ink"),
    cursor: of("--accent"),
    selectionBackground: of("--line-strong"),
    red: of("--bad"),
    green: of("--good"),
    yellow: of("--warn"),
    blue: of("--accent"),
  };
}

/** Opens a terminal in `element`; `open` opens its stream once the size is known. */
export function openTerminal(
  element: HTMLElement,
  open: (size: TerminalSize, handlers: StreamHandlers<TerminalStream>) => Stream<TerminalStream>,
  news: TerminalNews,
): TerminalSession {
  const terminal = new Terminal({
    fontFamily: "ui-monospace, 'SF Mono', 'DejaVu Sans Mono', monospace",
    fontSize: 12,
    cursorBlink: true,
    scrollback: 10_000,
    theme: colours(),
    screenReaderMode: true,
  });
  const fit = new FitAddon();
  terminal.loadAddon(fit);
  terminal.open(element);
  fit.fit();
  const size = () => ({ columns: terminal.cols, rows: terminal.rows });
  const stream = open(size(), {
    onEvent: (event) => {
      if (event.kind === "exited") {
        terminal.write(`\r\n\x1b[2m(exit status ${event.status})\x1b[0m\r\n`);
        news.onExit(event.status);
      }
    },
    onBytes: (bytes) => terminal.write(bytes),
    onError: (error) => {
      terminal.write(`\r\n\x1b[31m${error.message}\x1b[0m\r\n`);
      news.onError(error);
    },
  });
  const encoder = new TextEncoder();
  const typed = terminal.onData((data) => stream.sendBytes(encoder.encode(data)));
  const sized = terminal.onResize(() => stream.send({ kind: "resize", size: size() }));
  const watcher = new ResizeObserver(() => fit.fit());
  watcher.observe(element);
  const scheme = matchMedia("(prefers-color-scheme: dark)");
  const recolour = () => (terminal.options.theme = colours());
  scheme.addEventListener("change", recolour);
  const chosen = new MutationObserver(recolour);
  chosen.observe(document.documentElement, { attributeFilter: ["data-theme"] });
  // The shortcuts for views also work in a terminal. Tab and Esc go to the shell, so these are the way out.
  terminal.attachCustomKeyEventHandler((event) => !(event.ctrlKey && /^[1-9]$/.test(event.key)));
  const focus = () => {
    // Do not take the focus from a user who moves through the tabs by keyboard.
    if (!document.activeElement?.matches("[role=tab]:focus-visible")) terminal.focus();
  };
  focus();
  return {
    focus,
    dispose: () => {
      scheme.removeEventListener("change", recolour);
      chosen.disconnect();
      watcher.disconnect();
      typed.dispose();
      sized.dispose();
      stream.close();
      terminal.dispose();
    },
  };
}
