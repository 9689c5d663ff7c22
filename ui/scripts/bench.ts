// Measures the pages with made-up data: script of the first view, time to a usable list, big lists, a long log. Reports
// medians of `ROUNDS`. `--kept` reuses the last build.
import { gzipSync } from "node:zlib";

import type { Page } from "playwright-core";

import { site } from "./browser";

const ROUNDS = 5;
/** At 60 frames per second a frame takes 16.7 ms; one that takes longer than this has missed the next. */
const LATE = 25;
const LINES = 100_000;
const ROW = 18;

const { url, browser, close } = await site(process.argv.includes("--kept"));

function report(name: string, values: number[], unit: string, goal = ""): void {
  const sorted = [...values].sort((one, other) => one - other);
  const median = sorted[Math.floor(sorted.length / 2)] ?? NaN;
  const spread = sorted.length > 1 ? ` (${sorted[0]?.toFixed(1)} to ${sorted.at(-1)?.toFixed(1)})` : "";
  console.log(`${name.padEnd(52)} ${median.toFixed(1).padStart(8)} ${unit}${spread}${goal ? `   goal: ${goal}` : ""}`);
}

/** Opens a page that records when its first list item appears, in milliseconds after the request. */
async function opened(scenario: string, path: string): Promise<{ page: Page; usable: number; paint: number }> {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 } });
  const page = await context.newPage();
  await page.addInitScript(() => {
    const look = () => {
      if (!document.querySelector('main [role="listitem"]')) return;
      seen.disconnect();
      // After the frame that shows the item.
      requestAnimationFrame(() => setTimeout(() => performance.mark("usable")));
    };
    const seen = new MutationObserver(look);
    seen.observe(document, { childList: true, subtree: true });
  });
  await page.goto(`${url}?fixtures=${scenario}#/${path}`);
  await page.waitForFunction(
    () =>
      performance.getEntriesByName("usable").length > 0 &&
      performance.getEntriesByName("first-contentful-paint").length > 0,
  );
  const [usable, paint] = await page.evaluate(() =>
    ["usable", "first-contentful-paint"].map((name) => performance.getEntriesByName(name)[0]?.startTime ?? NaN),
  );
  return { page, usable: usable ?? NaN, paint: paint ?? NaN };
}

/** Scrolls for two seconds, one step per frame. Returns the share of late frames in percent and the longest in ms. */
async function scroll(page: Page, selector: string): Promise<[late: number, longest: number]> {
  return page.evaluate(
    async ([at, late]) => {
      const element = document.querySelector(at);
      if (!element) throw new Error(`nothing is at ${at}`);
      const frame = () => new Promise<number>((resolve) => requestAnimationFrame(resolve));
      const times: number[] = [];
      let before = await frame();
      const end = before + 2000;
      while (before < end) {
        const was = element.scrollTop;
        element.scrollTop += 120;
        if (element.scrollTop === was) element.scrollTop = 0;
        const now = await frame();
        times.push(now - before);
        before = now;
      }
      return [(100 * times.filter((time) => time > late).length) / times.length, Math.max(...times)];
    },
    [selector, LATE] as const,
  );
}

/** Milliseconds from the change of a field until the content of `watched` has changed and is laid out. */
async function typed(page: Page, label: string, text: string, watched: string): Promise<number> {
  const took = await page.evaluate(
    async ([name, value, watch]) => {
      const input = document.querySelector<HTMLInputElement>(`input[aria-label="${name}"]`);
      if (!input) throw new Error(`there is no field ${name}`);
      const shown = () => document.querySelector(watch)?.textContent ?? "";
      const before = shown();
      const begun = performance.now();
      input.value = value;
      input.dispatchEvent(new Event("input", { bubbles: true }));
      while (shown() === before) {
        if (performance.now() - begun > 5000) throw new Error(`${watch} did not change`);
        await new Promise((resolve) => setTimeout(resolve));
      }
      document.body.getBoundingClientRect();
      return performance.now() - begun;
    },
    [label, text, watched] as const,
  );
  return took;
}

async function rounds(one: (round: number) => Promise<number>): Promise<number[]> {
  const values: number[] = [];
  for (let round = 0; round < ROUNDS; round += 1) values.push(await one(round));
  return values;
}

const sent = await browser.newPage();
let script = 0;
const counted: Promise<void>[] = [];
sent.on("response", (response) => {
  // Users are not sent made-up data.
  if (!/\.(js|css)$/.test(new URL(response.url()).pathname) || response.url().includes("/fixtures-")) return;
  counted.push(response.body().then((body) => void (script += gzipSync(body, { level: 9 }).length)));
});
await sent.goto(`${url}?fixtures=`);
await sent.getByRole("listitem").first().waitFor();
await Promise.all(counted);
await sent.close();
report("script and style of the first view, compressed", [script / 1000], "kB", "below 300");

/** Measures a list, in a new page each round. */
async function list(title: string, path: string, label: string, field: string, texts: string[]): Promise<void> {
  const usable: number[] = [];
  const paint: number[] = [];
  for (let round = 0; round < ROUNDS; round += 1) {
    const one = await opened("large", path);
    usable.push(one.usable);
    paint.push(one.paint);
    await one.page.context().close();
  }
  report(`${title}: first paint`, paint, "ms");
  report(`${title}: usable after`, usable, "ms");
  const { page } = await opened("large", path);
  const rows = `[aria-label="${label}"][role="list"]`;
  const frames: [number, number][] = [];
  for (let round = 0; round < ROUNDS; round += 1) frames.push(await scroll(page, rows));
  report(
    `${title}: late frames`,
    frames.map(([late]) => late),
    "%",
    "0",
  );
  report(
    `${title}: longest frame`,
    frames.map(([, longest]) => longest),
    "ms",
    "16.7",
  );
  report(
    `${title}: filter`,
    await rounds((round) => typed(page, field, texts[round % texts.length] ?? "", rows)),
    "ms",
    "below 50",
  );
  await page.context().close();
}

await list("1,000 containers", "containers", "Containers", "Filter containers", [
  "worker-7",
  "api",
  "worker-1",
  "cache",
  "e",
]);
await list("5,000 images", "images", "Images", "Filter images", ["worker:7", "api", "worker:1", "cache", "e"]);

const { page: log } = await opened("large", "containers");
await log.getByRole("listitem").nth(1).getByRole("button").first().click();
await log.waitForFunction(
  (height) => (document.querySelector('[role="log"]')?.scrollHeight ?? 0) >= height,
  LINES * ROW,
  { timeout: 60_000 },
);
const texts = ["basket", "zebra", "200", "checkout", "a"];
report(
  "100,000 log lines: search",
  await rounds((round) =>
    typed(log, "Search logs", texts[round] ?? "", 'input[aria-label="Search logs"] ~ [role="status"]'),
  ),
  "ms",
  "below 100",
);
const frames: [number, number][] = [];
for (let round = 0; round < ROUNDS; round += 1) frames.push(await scroll(log, '[role="log"]'));
report(
  "100,000 log lines: late frames",
  frames.map(([late]) => late),
  "%",
  "0",
);
const heap = await log.evaluate(
  () => (performance as unknown as { memory: { usedJSHeapSize: number } }).memory.usedJSHeapSize,
);
report("heap of the page with it", [heap / 1e6], "MB");
await close();
