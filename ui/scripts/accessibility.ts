// Runs axe over every scene in both themes; any violation of WCAG 2.1 A or AA fails.
import { readFileSync } from "node:fs";

import type axe from "axe-core";

import { site, wanted } from "./browser";
import { SCENES, show } from "./scenes";

declare global {
  interface Window {
    axe: typeof axe;
  }
}

const source = readFileSync("node_modules/axe-core/axe.min.js", "utf8");
const { url, browser, close } = await site(process.argv.includes("--kept"));
let found = 0;
for (const theme of ["light", "dark"] as const) {
  const context = await browser.newContext({
    viewport: { width: 1280, height: 800 },
    colorScheme: theme,
    reducedMotion: "reduce",
  });
  context.setDefaultTimeout(6000);
  const page = await context.newPage();
  for (const scene of SCENES.filter(({ name }) => wanted(name))) {
    await show(page, url, scene);
    await page.evaluate(source);
    const violations = await page.evaluate(
      async () =>
        (await window.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"] }))
          .violations,
    );
    for (const { id, help, nodes } of violations) {
      found += 1;
      console.error(`${scene.name} (${theme}): ${id}: ${help}`);
      for (const node of nodes.slice(0, 3))
        console.error(`    ${node.html.slice(0, 160)}\n    ${node.any[0]?.message ?? node.all[0]?.message ?? ""}`);
    }
  }
  await context.close();
}
await close();
console.log(found ? `${found} violations` : "axe finds nothing");
process.exitCode = found ? 1 : 0;
