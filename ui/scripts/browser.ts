// Opens the pages with made-up data in a real browser.
import { build, preview, type PreviewServer } from "vite";
import { chromium, type Browser } from "playwright-core";

const SITE = "dist-fixtures";

export interface Site {
  url: string;
  browser: Browser;
  close(): Promise<void>;
}

/** Builds the pages (or reuses the last build if `kept`), serves them and starts Debian's Chromium. */
export async function site(kept: boolean): Promise<Site> {
  process.env.VITE_FIXTURES = "1";
  // The runner of this script sets "development", which would add Svelte's checks to the pages; a user's have none.
  process.env.NODE_ENV = "production";
  if (!kept) await build({ logLevel: "warn", build: { outDir: SITE, emptyOutDir: true } });
  const server: PreviewServer = await preview({
    logLevel: "warn",
    build: { outDir: SITE },
    preview: { port: 0, host: "127.0.0.1" },
  });
  const address = server.httpServer.address();
  if (address === null || typeof address === "string") throw new Error("the preview server has no port");
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
  return {
    url: `http://127.0.0.1:${address.port}/`,
    browser,
    close: async () => {
      await browser.close();
      await server.close();
    },
  };
}

/** Whether the command line selects `name`: it contains one of the words, or the command line has none. */
export function wanted(name: string): boolean {
  const words = process.argv.slice(2).filter((word) => !word.startsWith("--"));
  return words.length === 0 || words.some((word) => name.includes(word));
}
