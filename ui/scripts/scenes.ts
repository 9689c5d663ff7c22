// Every view in every state worth a look, and how to get there.
import type { Page } from "playwright-core";

export interface Scene {
  name: string;
  /** Scenario of the made-up engine. */
  scenario?: string;
  /** Address after `#/`. */
  path?: string;
  act?: (page: Page) => Promise<void>;
}

const row = (name: string) => (page: Page) =>
  page.getByRole("listitem").getByText(name, { exact: true }).first().click();

const tab =
  (object: string, title: string, ready?: string): ((page: Page) => Promise<void>) =>
  async (page) => {
    await row(object)(page);
    await page.getByRole("tab", { name: title }).click();
    if (ready) await page.locator(ready).first().waitFor();
  };

const key = (name: string) => async (page: Page) => {
  await page.getByRole("heading", { level: 1 }).waitFor();
  await page.keyboard.press(name);
};

const press = (name: string) => (page: Page) => page.getByRole("button", { name, exact: true }).first().click();

export const SCENES: Scene[] = [
  { name: "containers" },
  { name: "containers-menu", act: async (page) => press("More actions for hello")(page) },
  {
    name: "containers-selected",
    act: async (page) => {
      for (const name of ["hello", "registry"]) await page.getByLabel(`Select ${name}`).check();
    },
  },
  { name: "containers-large", scenario: "large" },
  { name: "containers-empty", scenario: "empty" },
  { name: "containers-filtered-out", act: (page) => page.getByLabel("Filter containers").fill("nothing like it") },
  { name: "containers-unlisted", scenario: "unlisted" },
  { name: "container-logs", act: row("api") },
  {
    name: "container-logs-search",
    act: async (page) => {
      await row("api")(page);
      await page.getByLabel("Timestamps").click();
      await page.getByLabel("Search logs").fill("basket");
      await page.getByLabel("Search logs").press("Enter");
    },
  },
  { name: "container-terminal", act: tab("api", "Terminal", ".xterm-screen") },
  { name: "container-files", act: tab("web", "Files", "text=etc") },
  {
    name: "container-files-edit",
    act: async (page) => {
      await tab("web", "Files", "text=etc")(page);
      await page.getByRole("button", { name: "app", exact: true }).click();
      await page.getByRole("button", { name: "package.json", exact: true }).click();
      await page.locator(".cm-content").waitFor();
    },
  },
  { name: "container-stats", act: tab("db", "Stats", ".uplot canvas") },
  { name: "container-inspect", act: tab("api", "Inspect", ".cm-content") },
  { name: "container-environment", act: tab("api", "Environment", "table") },
  { name: "container-mounts", act: tab("db", "Mounts", "text=read/write") },
  { name: "container-ports", act: tab("web", "Ports", "text=About") },
  { name: "container-processes", act: tab("web", "Processes", "table") },
  { name: "container-delete", act: press("Delete hello") },
  {
    name: "container-rename",
    act: async (page) => {
      await press("More actions for hello")(page);
      await page.getByRole("menuitem", { name: "Rename" }).click();
    },
  },
  {
    name: "action-failed",
    scenario: "broken",
    act: async (page) => {
      await press("Stop hello")(page);
      await page.getByRole("alert").waitFor();
    },
  },
  { name: "action-slow", scenario: "slow", act: press("Stop hello") },
  {
    name: "run",
    act: async (page) => {
      await press("Run")(page);
      const dialog = page.getByRole("dialog");
      await dialog.getByLabel("Image").fill("nginx:alpine");
      await dialog.getByLabel("Name", { exact: true }).fill("shop front");
      await dialog.getByLabel("Port on this computer").fill("8090");
      await dialog.getByLabel("Port in the container").fill("80");
      await dialog.getByLabel("Variable name").fill("GREETING");
      await dialog.getByLabel("Variable value").fill("hello there");
    },
  },
  {
    name: "run-pulling",
    act: async (page) => {
      await press("Run")(page);
      await page.getByRole("dialog").getByLabel("Image").fill("caddy:2");
      await page.getByRole("dialog").getByRole("button", { name: "Run" }).click();
      await page.getByRole("progressbar").first().waitFor();
    },
  },
  { name: "palette", act: key("Control+k") },
  {
    name: "palette-search",
    act: async (page) => {
      await key("Control+k")(page);
      await page.getByRole("combobox").fill("shop");
    },
  },
  { name: "shortcuts", act: key("?") },
  { name: "images", path: "images" },
  { name: "images-large", path: "images", scenario: "large" },
  { name: "images-empty", path: "images", scenario: "empty" },
  { name: "image-layers", path: "images", act: row("shop/api:latest") },
  { name: "image-about", path: "images", act: tab("shop/api:latest", "About", "dl") },
  { name: "image-used", path: "images", act: tab("shop/api:latest", "Used by") },
  { name: "images-prune", path: "images", act: press("Prune") },
  {
    name: "images-pull",
    path: "images",
    act: async (page) => {
      await press("Pull")(page);
      await page.getByRole("dialog").getByLabel("Image").fill("caddy");
      await page.getByRole("dialog").getByRole("button", { name: "Search" }).click();
      await page.getByText("caddy-exporter").waitFor();
    },
  },
  { name: "volumes", path: "volumes" },
  { name: "volumes-empty", path: "volumes", scenario: "empty" },
  { name: "volume-files", path: "volumes", act: row("shop_db-data") },
  { name: "volume-about", path: "volumes", act: tab("shop_db-data", "About", "dl") },
  { name: "volumes-create", path: "volumes", act: press("Create") },
  { name: "networks", path: "networks" },
  { name: "network", path: "networks", act: row("shop_default") },
  { name: "networks-create", path: "networks", act: press("Create") },
  { name: "builds", path: "builds" },
  { name: "builds-empty", path: "builds", scenario: "empty" },
  { name: "build-failed", path: "builds/b2" },
  { name: "build-form", path: "builds", act: press("Build an image") },
  {
    name: "build-live",
    path: "builds",
    act: async (page) => {
      await press("Build an image")(page);
      await page.getByRole("dialog").getByRole("button", { name: "web" }).click();
      await page.getByRole("dialog").getByRole("button", { name: "Build", exact: true }).click();
      await page.getByText("npm ci").first().waitFor();
    },
  },
  { name: "machines", path: "machines" },
  { name: "machine-logs", path: "machines/default/logs" },
  { name: "machine-shell", path: "machines/default/shell" },
  { name: "machines-off", path: "machines", scenario: "off" },
  { name: "registries", path: "registries" },
  { name: "registries-empty", path: "registries", scenario: "empty" },
  { name: "registries-login", path: "registries", act: press("Log in") },
  { name: "settings", path: "settings" },
  {
    name: "settings-waiting",
    path: "settings",
    act: async (page) => {
      await page.getByLabel("CPUs of a new machine").fill("3");
      await page.getByRole("switch", { name: "Containers reach this computer" }).click();
      await page.getByRole("switch", { name: "Names for containers" }).click();
      await page.getByText("Some changes take effect").first().scrollIntoViewIfNeeded();
    },
  },
  { name: "diagnose", path: "diagnose" },
  {
    name: "diagnose-reset",
    path: "diagnose",
    act: press("Delete all Docker data"),
  },
  { name: "state-off", scenario: "off" },
  { name: "state-unreachable", scenario: "unreachable" },
  { name: "state-version", scenario: "version" },
  { name: "state-stopped", scenario: "stopped" },
  { name: "state-suspended", scenario: "suspended" },
  { name: "state-starting", scenario: "starting" },
  {
    name: "state-starting-steps",
    scenario: "stopped",
    act: async (page) => {
      await press("Start the machine")(page);
      await page.getByText("Preparing the data disk").waitFor();
    },
  },
  { name: "state-failed", scenario: "failed" },
  {
    name: "state-no-space",
    scenario: "space",
    act: async (page) => {
      await press("Start again")(page);
      await page.getByText("Free some space there").waitFor();
    },
  },
  { name: "state-no-accelerator", scenario: "accelerator" },
  { name: "state-degraded", scenario: "degraded" },
  { name: "state-disconnected", scenario: "disconnected" },
  { name: "first-run", scenario: "first" },
  {
    name: "first-run-done",
    scenario: "first",
    act: async (page) => {
      await press("Start")(page);
      await page.getByText("Three things to try").waitFor({ timeout: 15_000 });
      await press("Run")(page);
      await page.getByText("localhost:8080").waitFor();
    },
  },
];

/** Opens a scene and waits until it is stable. */
export async function show(page: Page, url: string, scene: Scene): Promise<void> {
  // A change of the part after # alone would not reload the page.
  await page.goto("about:blank");
  await page.goto(`${url}?fixtures=${scene.scenario ?? ""}#/${scene.path ?? "containers"}`);
  await page.getByRole("navigation").waitFor();
  await scene.act?.(page);
  // Made-up lists and details arrive within 0.2 s; text for slow work appears after a whole second.
  await page.waitForTimeout(scene.scenario === "slow" ? 1300 : 350);
}
