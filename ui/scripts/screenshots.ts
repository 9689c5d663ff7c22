// Takes pictures of every view in every state, theme and size, into screenshots/. Names or parts of names on the
// command line choose scenes; `--kept` reuses the last build; `--quick` takes only dark at the larger size and light at
// the smaller.
import { mkdirSync } from "node:fs";

import { site, wanted } from "./browser";
import { SCENES, show } from "./scenes";

const SIZES = [
  { width: 1280, height: 800 },
  { width: 900, height: 600 },
];
const quick = process.argv.includes("--quick");
const { url, browser, close } = await site(process.argv.includes("--kept"));
mkdirSync("screenshots", { recursive: true });
let failed = 0;
for (const theme of ["light", "dark"] as const) {
  for (const viewport of SIZES) {
    if (quick && (theme === "dark") !== (viewport.width === 1280)) continue;
    const context = await browser.newContext({ viewport, colorScheme: theme });
    context.setDefaultTimeout(6000);
    const page = await context.newPage();
    let scene = "";
    page.on("pageerror", (error) => {
      failed += 1;
      console.error(`${scene}: ${error.message}`);
    });
    for (const one of SCENES.filter(({ name }) => wanted(name))) {
      scene = `${one.name} (${theme}, ${viewport.width})`;
      try {
        await show(page, url, one);
      } catch (error) {
        failed += 1;
        console.error(`${scene}: ${error instanceof Error ? error.message.split("\n")[0] : String(error)}`);
      }
      await page.screenshot({ path: `screenshots/${one.name}-${theme}-${viewport.width}.png` });
    }
    await context.close();
  }
}
await close();
console.log(failed ? `${failed} scenes failed` : "all scenes are in screenshots/");
process.exitCode = failed ? 1 : 0;
