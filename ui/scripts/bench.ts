// Figures of the pages: script of the first view, time to a usable list, big lists, a long log. The last build with --kept.
import { gzipSync } from "node:zlib";

import type { Page } from "playwright-core";

import { site } from "./browser";

const { url, browser, close } = await site(process.argv.includes("--kept"));
const report = (name: string, value: number, unit: string, goal = "") => console.log(`${name.padEnd(52)} ${value.toFixed(unit === "ms" || unit === "%" ? 1 : 0).padStart(8)} ${unit}${goal ? `   (goal: ${goal})` : ""}`);

async function opened(scenario: string, path: string): Promise<Page> {
  const page = await browser.newPage({ viewport: { width: 1280, height: 800 } });
  await page.goto(`${url}?fixtures=${scenario}#/${path}`);
  await page.getByRole("listitem").first().waitFor();
  return page;
}

/** Scrolls for two seconds, a step each frame, and gives the share of frames that came in time. */
async function scroll(page: Page, selector: string): Promise<{ late: number; longest: number }> {
  return page.evaluate(async (at) => {
    const element = document.querySelector(at);
    if (!element) throw new Error(`nothing is at ${at}`);
    const frame = () => new Promise<number>((resolve) => requestAnimationFrame(resolve));
    const times: number[] = [];
    let before = await frame();
    const end = before + 2000;
    while (before < end) {
      element.scrollTop += 120;
      const now = await frame();
      times.push(now - before);
      before = now;
    }
    return { late: (100 * times.filter((time) => time > 25).length) / times.length, longest: Math.max(...times) };
  }, selector);
}

/** From a change of the filter until the list was laid out anew. */
async function filter(page: Page, label: string, text: string): Promise<number> {
  return page.evaluate(
    async ([name, value]) => {
      const input = document.querySelector<HTMLInputElement>(`input[aria-label="${name}"]`);
      if (!input) throw new Error("there is no filter");
      const begun = performance.now();
      input.value = value ?? "";
      input.dispatchEvent(new Event("input", { bubbles: true }));
      await Promise.resolve();
      document.body.getBoundingClientRect();
      return performance.now() - begun;
    },
    [label, text],
  );
}

const sent = await browser.newPage();
let script = 0;
const counted: Promise<void>[] = [];
sent.on("response", (response) => {
  // Made-up data is not sent to anybody.
  if (!/\.(js|css)$/.test(new URL(response.url()).pathname) || response.url().includes("/fixtures-")) return;
  counted.push(response.body().then((body) => void (script += gzipSync(body, { level: 9 }).length)));
});
await sent.goto(`${url}?fixtures=`);
await sent.getByRole("listitem").first().waitFor();
await Promise.all(counted);
const paint = await sent.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? 0);
report("script and style of the first view, compressed", script / 1000, "kB", "below 300");
report("first paint", paint, "ms");
await sent.close();

const list = await opened("large", "containers");
report("1,000 containers: usable after", await list.evaluate(() => performance.now()), "ms");
const containers = await scroll(list, '[aria-label="Containers"][role="list"]');
report("1,000 containers: frames that came late", containers.late, "%", "0");
report("1,000 containers: longest frame", containers.longest, "ms", "16.7");
report("1,000 containers: filter", await filter(list, "Filter containers", "worker-7"), "ms", "below 50");
await list.close();

const images = await opened("large", "images");
const scrolled = await scroll(images, '[aria-label="Images"][role="list"]');
report("5,000 images: frames that came late", scrolled.late, "%", "0");
report("5,000 images: longest frame", scrolled.longest, "ms", "16.7");
report("5,000 images: filter", await filter(images, "Filter images", "worker:7"), "ms", "below 50");
await images.close();

const log = await opened("large", "containers");
await log.getByRole("listitem").nth(1).getByRole("button").first().click();
await log.waitForFunction(() => (document.querySelector('[role="log"]')?.scrollHeight ?? 0) > 9_000 * 18, undefined, { timeout: 60_000 });
report("10,000 log lines: search", await filter(log, "Search the log", "basket"), "ms", "below 100 for 100,000");
const logged = await scroll(log, '[role="log"]');
report("10,000 log lines: frames that came late", logged.late, "%", "0");
const memory = await log.evaluate(() => (performance as unknown as { memory: { usedJSHeapSize: number } }).memory.usedJSHeapSize);
report("heap of the page with it", memory / 1e6, "MB");
await close();
