// A real machine, `rorqual web` on top of it, a real browser, and the docker client to verify the outcome.
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

import { type Browser, type BrowserContext, chromium, type Page } from "playwright-core";
import { expect } from "vitest";

function wanted(name: string): string {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: run these tests by \`make test-browser\``);
  return value;
}

export const rorqual = wanted("RORQUAL");
const clients = wanted("RORQUAL_CLIENTS");
const material = wanted("RORQUAL_MATERIAL");

/** Waits until `look` returns something truthy. */
export async function until(look: () => unknown): Promise<void> {
  await expect.poll(look, { timeout: 20_000, interval: 100 }).toBeTruthy();
}

/** A running machine with the image `busybox`. */
export class Machine {
  readonly home = mkdtempSync(join(tmpdir(), "rq-"));
  #web: ChildProcess | null = null;

  run(...args: string[]): string {
    return execFileSync(rorqual, args, {
      env: { ...process.env, RORQUAL_HOME: this.home, DOCKER_CONFIG: join(this.home, "docker") },
      encoding: "utf8",
      stdio: ["ignore", "pipe", "pipe"],
    });
  }

  start(): void {
    this.run("start");
    const script = `
      d=$(mktemp -d) && mkdir "$d/bin" && cp "$1/busybox" "$d/bin/" &&
      for a in sh cat echo sleep seq ls; do ln -s busybox "$d/bin/$a"; done &&
      tar -C "$d" -c . | "$2/docker" import - busybox:latest >/dev/null && rm -r "$d"`;
    execFileSync("sh", ["-c", script, "sh", material, clients], { env: this.dockerEnvironment() });
  }

  dockerEnvironment(): NodeJS.ProcessEnv {
    return {
      ...process.env,
      DOCKER_HOST: `unix://${this.home}/run/docker.sock`,
      DOCKER_CONFIG: join(this.home, "docker"),
    };
  }

  /** Runs the unmodified client and returns its output. */
  docker(...args: string[]): string {
    return execFileSync(join(clients, "docker"), args, {
      env: this.dockerEnvironment(),
      encoding: "utf8",
      stdio: ["ignore", "pipe", "pipe"],
    }).trim();
  }

  /** Serves the pages and returns the address that opens them once. */
  async serve(): Promise<string> {
    const web = spawn(rorqual, ["web", "--no-open", "--json"], {
      env: { ...process.env, RORQUAL_HOME: this.home, DOCKER_CONFIG: join(this.home, "docker") },
      stdio: ["ignore", "pipe", "inherit"],
    });
    this.#web = web;
    if (!web.stdout) throw new Error("rorqual web has no output");
    for await (const line of createInterface({ input: web.stdout })) return (JSON.parse(line) as { url: string }).url;
    throw new Error("rorqual web printed nothing");
  }

  /** Creates the image `registry` from Debian's docker-registry. */
  loadRegistry(): void {
    this.docker("import", "-c", 'ENTRYPOINT ["/usr/bin/docker-registry"]', join(material, "registry.tar"), "registry");
  }

  stop(): void {
    this.#web?.kill();
    this.run("quit", "--stop-machines");
    rmSync(this.home, { recursive: true, force: true });
  }
}

/** A browser that opened the printed address. */
export class Window {
  private constructor(
    readonly browser: Browser,
    readonly context: BrowserContext,
    readonly page: Page,
    readonly origin: string,
    readonly errors: string[],
  ) {}

  static async open(url: string, look: { width?: number; height?: number; dark?: boolean } = {}): Promise<Window> {
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
    const context = await browser.newContext({
      viewport: { width: look.width ?? 1280, height: look.height ?? 800 },
      colorScheme: look.dark ? "dark" : "light",
    });
    const page = await context.newPage();
    page.setDefaultTimeout(20_000);
    const errors: string[] = [];
    page.on("pageerror", (error) => errors.push(String(error)));
    page.on("console", (message) => {
      if (message.type() === "error") errors.push(message.text());
    });
    await page.goto(url);
    return new Window(browser, context, page, new URL(url).origin, errors);
  }

  /** Closes every dialog, so that one left by a failed test does not block the next. */
  async closeDialogs(): Promise<void> {
    await this.page.evaluate(() => {
      for (const dialog of document.querySelectorAll("dialog[open]")) (dialog as HTMLDialogElement).close();
    });
  }

  async go(hash: string): Promise<void> {
    await this.page.evaluate((to) => {
      location.hash = to;
    }, hash);
  }
}
