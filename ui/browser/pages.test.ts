// A user's actions in the pages take effect in the real engine; the docker client verifies it.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";

import { Machine, until, Window } from "./machine";

const machine = new Machine();
let url: string;
let window: Window;

beforeAll(async () => {
  machine.start();
  machine.docker(
    "run",
    "-d",
    "--name",
    "talker",
    "busybox",
    "sh",
    "-c",
    "i=0; while :; do i=$((i+1)); echo line $i of the log; sleep 1; done",
  );
  url = await machine.serve();
  window = await Window.open(url);
});

afterEach(() => window.closeDialogs());

afterAll(async () => {
  await window?.browser.close();
  machine.stop();
});

describe("the first run", () => {
  test("shows what to do and really runs a container", async () => {
    const { page } = window;
    await page.getByRole("heading", { name: "Welcome to Rorqual" }).waitFor();
    await page.getByRole("button", { name: "Run", exact: true }).click();
    const link = page.getByRole("link", { name: /localhost:8080/ });
    await link.waitFor();
    expect(machine.docker("inspect", "-f", "{{.State.Running}}", "hello")).toBe("true");
    await page.getByRole("button", { name: "Go to my containers" }).click();
    await page.getByRole("heading", { name: "Containers", exact: true }).waitFor();
  });
});

describe("containers", () => {
  test("a container started in a terminal appears, and a removed one disappears", async () => {
    machine.docker("run", "-d", "--name", "outsider", "busybox", "sleep", "1000");
    const row = window.page.getByRole("button", { name: /^outsider/ });
    await row.waitFor();
    machine.docker("rm", "-f", "outsider");
    await row.waitFor({ state: "detached" });
  });

  test("stop and start take effect in the engine", async () => {
    await window.page.getByRole("button", { name: "Stop hello" }).click();
    await until(() => machine.docker("inspect", "-f", "{{.State.Running}}", "hello") === "false");
    await window.page.getByRole("button", { name: "Start hello" }).click();
    await until(() => machine.docker("inspect", "-f", "{{.State.Running}}", "hello") === "true");
  });

  test("the log follows, and a search counts its matches", async () => {
    const { page } = window;
    await page.getByRole("button", { name: /^talker/ }).click();
    await page.getByRole("tab", { name: "Logs" }).click();
    const log = page.getByRole("log");
    await log.getByText("line 2 of the log", { exact: true }).waitFor();
    const before = machine.docker("logs", "talker").split("\n").length;
    await log.getByText(`line ${before + 2} of the log`, { exact: true }).waitFor();
    await page.getByLabel("Search logs").fill("line 1 of");
    await page.getByRole("status").filter({ hasText: "1 of 1" }).waitFor();
    await page.getByLabel("Search logs").fill("");
  });

  test("a terminal runs what is typed", async () => {
    const { page } = window;
    await page.getByRole("tab", { name: "Terminal" }).click();
    await page.locator(".xterm-helper-textarea").focus();
    await page.keyboard.type("echo typed-$((6*7)) > /typed\n");
    await until(() => {
      try {
        return machine.docker("exec", "talker", "cat", "/typed") === "typed-42";
      } catch {
        return false;
      }
    });
  });

  test("inspect shows the engine's own words", async () => {
    await window.page.getByRole("tab", { name: "Inspect" }).click();
    await window.page.getByText(`"${machine.docker("inspect", "-f", "{{.Id}}", "talker")}"`).waitFor();
  });

  test("the keyboard alone navigates and filters the list", async () => {
    const { page } = window;
    await page.keyboard.press("Escape");
    await page.keyboard.press("/");
    await page.keyboard.type("talk");
    await page.getByRole("button", { name: /^hello/ }).waitFor({ state: "detached" });
    await page.keyboard.press("Escape");
    await page.getByRole("button", { name: /^hello/ }).waitFor();
  });

  test("the run form runs, and shows the equivalent command line", async () => {
    const { page } = window;
    await page.getByRole("list", { name: "Containers" }).focus();
    await page.keyboard.press("n");
    await page.getByLabel("Image", { exact: true }).fill("busybox");
    await page.getByLabel("Name", { exact: true }).fill("formed");
    await page.getByLabel("Command", { exact: true }).fill("sleep 1000");
    await page.getByLabel("Variable name").fill("GREETING");
    await page.getByLabel("Variable value").fill("it's me");
    const line = await page.getByTestId("command-line").textContent();
    expect(line).toBe(`docker run -d --name formed -e 'GREETING=it'\\''s me' busybox sleep 1000`);
    await page.getByRole("dialog").getByRole("button", { name: "Run", exact: true }).click();
    await until(() => machine.docker("ps", "--format", "{{.Names}}").split("\n").includes("formed"));
    expect(machine.docker("exec", "formed", "sh", "-c", "echo $GREETING")).toBe("it's me");
  });

  test("a failing run keeps the form and shows the reason", async () => {
    const { page } = window;
    await page.keyboard.press("Escape");
    await page.getByRole("button", { name: "Run", exact: true }).first().click();
    await page.getByLabel("Image", { exact: true }).fill("busybox");
    await page.getByLabel("Name", { exact: true }).fill("formed");
    await page.getByLabel("Command", { exact: true }).fill("sleep 1");
    await page.getByRole("dialog").getByRole("button", { name: "Run", exact: true }).click();
    await page.getByRole("alert").filter({ hasText: "already in use" }).waitFor();
    await page.getByRole("button", { name: "Cancel" }).click();
  });

  test("deleting asks first and then deletes", async () => {
    const { page } = window;
    await page.getByRole("button", { name: "Delete formed" }).click();
    await page.getByRole("button", { name: "Cancel" }).click();
    expect(machine.docker("ps", "--format", "{{.Names}}")).toContain("formed");
    await page.getByRole("button", { name: "Delete formed" }).click();
    await page.getByRole("button", { name: "Delete container" }).click();
    await until(() => !machine.docker("ps", "-a", "--format", "{{.Names}}").split("\n").includes("formed"));
  });
});

describe("other views", () => {
  test("an image gets another tag", async () => {
    const { page } = window;
    await window.go("#/images");
    await page.getByRole("button", { name: /^busybox:latest/ }).click();
    await page.getByRole("button", { name: "Add tag" }).click();
    await page.getByLabel("Repository and tag").fill("other:2");
    await page.getByRole("button", { name: "Add", exact: true }).click();
    await until(() => machine.docker("images", "--format", "{{.Repository}}:{{.Tag}}").split("\n").includes("other:2"));
    await page.getByText("other:2").first().waitFor();
  });

  test("a volume is created and deleted", async () => {
    const { page } = window;
    await window.go("#/volumes");
    await page.getByRole("button", { name: "Create", exact: true }).first().click();
    await page.getByLabel("Name").fill("kept");
    await page.getByRole("dialog").getByRole("button", { name: "Create" }).click();
    await until(() => machine.docker("volume", "ls", "-q").split("\n").includes("kept"));
    await page.getByRole("button", { name: "Delete kept" }).click();
    await page.getByRole("button", { name: "Delete volume" }).click();
    await until(() => !machine.docker("volume", "ls", "-q").split("\n").includes("kept"));
  });

  test("a network is created, and a container connected", async () => {
    const { page } = window;
    await window.go("#/networks");
    await page.getByRole("button", { name: "Create", exact: true }).first().click();
    await page.getByLabel("Name").fill("inner");
    await page.getByLabel("Subnet").fill("10.99.0.0/24");
    await page.getByRole("dialog").getByRole("button", { name: "Create" }).click();
    await until(() => machine.docker("network", "ls", "--format", "{{.Name}}").split("\n").includes("inner"));
    await page.getByLabel("Container to connect").selectOption({ label: "talker" });
    await page.getByRole("button", { name: "Connect", exact: true }).click();
    await until(() =>
      machine.docker("inspect", "-f", "{{json .NetworkSettings.Networks}}", "talker").includes("inner"),
    );
    await page.getByRole("button", { name: "Disconnect talker from inner" }).waitFor();
  });

  test("the machine's usage is shown live", async () => {
    await window.go("#/machines");
    await window.page.getByRole("img", { name: /^Memory: .* used/ }).waitFor();
  });

  test("the palette finds an object and opens it", async () => {
    const { page } = window;
    await page.keyboard.press("Control+k");
    await page.keyboard.type("talker");
    await page.keyboard.press("Enter");
    await page.getByRole("complementary", { name: "Details" }).getByRole("heading", { name: "talker" }).waitFor();
  });
});

describe("safety", () => {
  test("the address opens once, and nothing is served without the cookie", async () => {
    const stranger = await fetch(url, { redirect: "manual" });
    expect(stranger.status).toBe(401);
    expect((await fetch(window.origin)).status).toBe(401);
    const call = await fetch(`${window.origin}/api/call/app.information`, {
      method: "POST",
      body: "{}",
      headers: { origin: window.origin },
    });
    expect(call.status).toBe(401);
  });

  test("another site's page and another name get nothing, even with the cookie", async () => {
    const cookie = (await window.context.cookies()).map(({ name, value }) => `${name}=${value}`).join("; ");
    const ask = (headers: Record<string, string>) =>
      fetch(`${window.origin}/api/call/app.information`, {
        method: "POST",
        body: "{}",
        headers: { cookie, ...headers },
      });
    expect((await ask({ origin: window.origin })).status).toBe(200);
    expect((await ask({ origin: "http://evil.test" })).status).toBe(403);
    expect((await ask({})).status).toBe(403);
    expect((await ask({ origin: window.origin, "sec-fetch-site": "cross-site" })).status).toBe(403);
  });
});

describe("accessibility", () => {
  const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
  const views = [
    "containers",
    "images",
    "volumes",
    "networks",
    "builds",
    "machines",
    "registries",
    "settings",
    "diagnose",
  ];

  test.each(views)("%s has no violations, in light and dark, wide and narrow", async (view) => {
    const { page } = window;
    for (const look of [
      { dark: false, width: 1280, height: 800 },
      { dark: true, width: 900, height: 600 },
    ]) {
      await page.emulateMedia({ colorScheme: look.dark ? "dark" : "light", reducedMotion: "reduce" });
      await page.setViewportSize(look);
      await window.go(`#/${view}`);
      await page.locator("h1, h2").first().waitFor();
      // The page's policy blocks added scripts; the debugger runs in a world of its own.
      const found = await page.evaluate(
        `(() => {
          ${axe};
          const described = (one) => one.id + ": " + one.nodes.map((node) => node.html.slice(0, 160)).join(" | ");
          return axe
            .run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21aa"] })
            .then((result) => result.violations.map(described));
        })()`,
      );
      expect(found).toEqual([]);
    }
  });
});

describe("daemon", () => {
  test("the pages survive the daemon's restart", async () => {
    const { page } = window;
    await page.setViewportSize({ width: 1280, height: 800 });
    await window.go("#/containers");
    await page.getByRole("button", { name: /^talker/ }).waitFor();
    machine.run("quit");
    await page.getByRole("heading", { name: "Rorqual is off" }).waitFor();
    machine.run("status");
    machine.run("start");
    await page.getByRole("button", { name: /^talker/ }).waitFor();
  });

  test("no script failed", () => {
    // The tests cause refused requests on purpose; errors thrown by scripts are real.
    expect(window.errors.filter((error) => !/Failed to load resource|WebSocket/.test(error))).toEqual([]);
  });
});
