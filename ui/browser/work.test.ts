// Longer work in the pages, on the real engine and its files: files, builds, registries, settings, diagnose.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";

import { Machine, until, Window } from "./machine";

const machine = new Machine();
let window: Window;

beforeAll(async () => {
  machine.start();
  machine.docker(
    "run",
    "-d",
    "--name",
    "holder",
    "-v",
    "kept:/kept",
    "busybox",
    "sh",
    "-c",
    "mkdir -p /etc/app && echo first > /etc/app/settings.txt && printf 'a\\377b' > /etc/app/binary && " +
      "exec sleep 100000",
  );
  window = await Window.open(await machine.serve());
  await window.page.getByRole("button", { name: "Go to my containers" }).click();
});

afterEach(() => window.closeDialogs());

afterAll(async () => {
  await window?.browser.close();
  machine.stop();
});

const inHolder = (...command: string[]) => machine.docker("exec", "holder", ...command);

describe("files of a container", () => {
  const files = () => window.page.getByRole("group", { name: "Files" });
  const entry = (name: string) => files().getByRole("button", { name, exact: true });

  test("a folder is opened, a file edited and saved", async () => {
    const { page } = window;
    await page.getByRole("button", { name: /^holder/ }).click();
    await page.getByRole("tab", { name: "Files" }).click();
    await entry("etc").click();
    await entry("app").click();
    await entry("settings.txt").click();
    const editor = page.getByRole("dialog").locator(".cm-content");
    await editor.click();
    await page.keyboard.press("Control+End");
    await page.keyboard.type("second");
    await page.getByRole("dialog").getByRole("button", { name: "Save" }).click();
    await until(() => inHolder("cat", "/etc/app/settings.txt") === "first\nsecond");
  });

  test("a binary file is downloaded unchanged", async () => {
    const coming = window.page.waitForEvent("download");
    await entry("binary").click();
    const download = await coming;
    expect(download.suggestedFilename()).toBe("binary");
    expect(readFileSync(await download.path()).toString("latin1")).toBe("a\u00ffb");
  });

  test("files are uploaded, and existing ones are replaced only on confirmation", async () => {
    const { page } = window;
    const put = (text: string) =>
      page
        .getByLabel("Files to upload")
        .setInputFiles({ name: "up.txt", mimeType: "text/plain", buffer: Buffer.from(text) });
    await put("one");
    await until(async () => (await entry("up.txt").count()) === 1);
    expect(inHolder("cat", "/etc/app/up.txt")).toBe("one");
    await put("two");
    await page.getByRole("dialog").getByRole("button", { name: "Cancel" }).click();
    await page.getByRole("dialog").waitFor({ state: "hidden" });
    expect(inHolder("cat", "/etc/app/up.txt")).toBe("one");
    await put("two");
    await page.getByRole("button", { name: "Replace" }).click();
    await until(() => inHolder("cat", "/etc/app/up.txt") === "two");
  });

  test("folders are created, files renamed and deleted", async () => {
    const { page } = window;
    await page.getByRole("button", { name: "New folder" }).click();
    await page.getByLabel("Name", { exact: true }).fill("made");
    await page.getByRole("button", { name: "OK" }).click();
    await entry("made").waitFor();
    await page.getByRole("button", { name: "More actions for up.txt" }).click();
    await page.getByRole("menuitem", { name: "Rename" }).click();
    await page.getByLabel("Name", { exact: true }).fill("renamed.txt");
    await page.getByRole("button", { name: "OK" }).click();
    await entry("renamed.txt").waitFor();
    expect(inHolder("sh", "-c", "cd /etc/app && echo *")).toBe("binary made renamed.txt settings.txt");
    await page.getByRole("button", { name: "More actions for renamed.txt" }).click();
    await page.getByRole("menuitem", { name: "Delete" }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
    await until(() => inHolder("sh", "-c", "cd /etc/app && echo *") === "binary made settings.txt");
  });

  test("a volume's files are available too", async () => {
    inHolder("sh", "-c", "echo inside > /kept/note.txt");
    await window.go("#/volumes");
    await window.page.getByRole("button", { name: /^kept/ }).click();
    await entry("note.txt").click();
    await window.page.getByRole("dialog").getByText("inside").waitFor();
  });
});

describe("builds", () => {
  const folder = join(machine.home, "site");

  async function build(): Promise<void> {
    const { page } = window;
    await page.getByRole("button", { name: "Build an image" }).first().click();
    await page.getByRole("textbox", { name: "Folder" }).fill(folder);
    await page.getByRole("textbox", { name: "Folder" }).press("Enter");
    await page.getByRole("dialog").getByText("Dockerfile", { exact: true }).last().waitFor();
    await page.getByLabel("Image name").fill("built:1");
    await page.getByRole("dialog").getByRole("button", { name: "Build", exact: true }).click();
  }

  test("a folder becomes an image, with its steps", async () => {
    mkdirSync(folder);
    writeFileSync(
      join(folder, "Dockerfile"),
      "FROM busybox\nCOPY page.html /\nRUN echo made-here > /made && cat /made\n",
    );
    writeFileSync(join(folder, "page.html"), "<p>hello");
    await window.go("#/builds");
    await build();
    await window.page.getByText(/^Built /).waitFor();
    expect(machine.docker("run", "--rm", "built:1", "cat", "/made", "/page.html")).toBe("made-here\n<p>hello");
    await window.page.getByRole("button", { name: /RUN echo made-here/ }).click();
    await window.page.locator("pre").getByText("made-here").waitFor();
  });

  test("steps built before are marked as cached", async () => {
    await window.go("#/builds");
    await build();
    await window.page.getByText(/^Built /).waitFor();
    await window.page.getByText("cached", { exact: true }).first().waitFor();
  });

  test("a failing line is shown in its Dockerfile", async () => {
    writeFileSync(join(folder, "Dockerfile"), "FROM busybox\nCOPY page.html /\nRUN echo gone wrong; exit 3\n");
    await window.go("#/builds");
    await build();
    await window.page.getByRole("alert").filter({ hasText: "exit code: 3" }).first().waitFor();
    await window.page.locator("pre").getByText("gone wrong").waitFor();
    await window.page.locator(".cm-line").getByText("RUN echo gone wrong; exit 3").waitFor();
  });

  test("the history keeps them", async () => {
    await window.go("#/builds");
    await until(
      async () => (await window.page.getByRole("list", { name: "Builds" }).getByRole("listitem").count()) === 3,
    );
  });
});

describe("registries", () => {
  // The password is "secret".
  const USERS = "me:$2b$04$Pn8bKS/yJln7.2.VRnJNreixNqKlm1okblFZ4BT5Iv1to0ExlcR6.\n";
  const CONFIGURATION =
    "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: /tmp/registry\n" +
    "auth:\n  htpasswd:\n    realm: test\n    path: /etc/users\nhttp:\n  addr: :5000\n";

  async function login(password: string): Promise<void> {
    const { page } = window;
    await page.getByRole("button", { name: "Log in" }).first().click();
    await page.getByLabel("Registry", { exact: true }).fill("localhost:5000");
    await page.getByLabel("Username").fill("me");
    await page.getByLabel("Password or token").fill(password);
    await page.getByRole("dialog").getByRole("button", { name: "Log in" }).click();
  }

  beforeAll(() => {
    machine.loadRegistry();
    machine.docker("create", "--name", "registry", "-p", "5000:5000", "registry", "serve", "/etc/registry.yml");
    for (const [name, text] of [
      ["registry.yml", CONFIGURATION],
      ["users", USERS],
    ] as const) {
      writeFileSync(join(machine.home, name), text);
      machine.docker("cp", join(machine.home, name), `registry:/etc/${name}`);
    }
    machine.docker("start", "registry");
  });

  test("a wrong password is refused with the reason", async () => {
    await window.go("#/registries");
    await login("wrong");
    await window.page.getByRole("alert").filter({ hasText: "unauthorized" }).waitFor();
  });

  test("docker in a terminal shares the login, which a push needs", async () => {
    const { page } = window;
    await login("secret");
    await page.getByText("localhost:5000", { exact: true }).waitFor();
    machine.docker("commit", "holder", "localhost:5000/pushed:1");
    machine.docker("push", "localhost:5000/pushed:1");
    machine.docker("rmi", "localhost:5000/pushed:1");
  });

  test("an image is pulled by name", async () => {
    const { page } = window;
    await window.go("#/images");
    await page.getByRole("button", { name: "Pull", exact: true }).first().click();
    await page.getByLabel("Image", { exact: true }).fill("localhost:5000/pushed:1");
    await page.getByRole("dialog").getByRole("button", { name: "Pull" }).click();
    await page.getByRole("button", { name: /^localhost:5000\/pushed:1/ }).waitFor();
    expect(machine.docker("images", "-q", "localhost:5000/pushed:1")).not.toBe("");
  });

  test("logging out removes the login", async () => {
    const { page } = window;
    await window.go("#/registries");
    await page.getByRole("button", { name: "Log out" }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Log out" }).click();
    await page.getByText("Not logged in to a registry").waitFor();
    expect(() => machine.docker("push", "localhost:5000/pushed:1")).toThrow();
  });
});

describe("settings", () => {
  const file = () => readFileSync(join(machine.home, "config.toml"), "utf8");

  test("a change is written in place and shows when it takes effect", async () => {
    const { page } = window;
    await window.go("#/settings");
    await page.getByLabel("CPUs of a new machine").fill("3");
    await page.getByLabel("CPUs of a new machine").press("Tab");
    await until(() => /^cpus = 3$/m.test(file()));
    await page.getByText("Applies to machines created from now on", { exact: false }).waitFor();
    await page.getByRole("button", { name: "Reset CPUs of a new machine to the default" }).click();
    await until(() => /^# cpus = 2$/m.test(file()));
  });

  test("a change waits for the restart that applies it, and for no other", async () => {
    const { page } = window;
    await window.go("#/settings");
    const machine = page.getByText("Some changes take effect when the machine restarts", { exact: false });
    const daemon = page.getByText("Some changes take effect when Rorqual's background service restarts", {
      exact: false,
    });
    await page.getByRole("switch", { name: "Names without a port" }).click();
    await daemon.waitFor();
    expect(await machine.count()).toBe(0);
    await page.getByRole("switch", { name: "Block link-local addresses" }).click();
    await machine.waitFor();
    // Undone, nothing waits any more.
    await page.getByRole("button", { name: "Reset Block link-local addresses to the default" }).click();
    await machine.waitFor({ state: "detached" });
    await daemon.waitFor();
    await page.getByRole("button", { name: "Reset Names without a port to the default" }).click();
    await daemon.waitFor({ state: "detached" });
  });

  test("an invalid value changes nothing and the error names the valid ones", async () => {
    const { page } = window;
    const before = file();
    await page.getByLabel("The machine's network").fill("10.0.0.1/33");
    await page.getByLabel("The machine's network").press("Tab");
    await page.getByRole("alert").filter({ hasText: "16 addresses or more" }).waitFor();
    expect(file()).toBe(before);
  });
});

describe("diagnose", () => {
  test("the checks are shown, and a bundle is a zip", async () => {
    const { page } = window;
    await window.go("#/diagnose");
    await page.getByText("Guest image", { exact: true }).waitFor();
    const coming = page.waitForEvent("download");
    await page.getByRole("button", { name: "Save a support bundle" }).click();
    const download = await coming;
    expect(download.suggestedFilename()).toMatch(/\.zip$/);
    expect(
      readFileSync(await download.path())
        .subarray(0, 4)
        .toString("latin1"),
    ).toBe("PK\u0003\u0004");
  });

  test("deleting unused data asks first and keeps used data", async () => {
    const { page } = window;
    machine.docker("create", "--name", "unused", "busybox", "true");
    await page.getByRole("button", { name: "Delete", exact: true }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Delete", exact: true }).click();
    await until(() => !machine.docker("ps", "-a", "--format", "{{.Names}}").split("\n").includes("unused"));
    expect(inHolder("cat", "/kept/note.txt")).toBe("inside");
  });

  test("deleting all data requires the word, and then nothing is left", async () => {
    const { page } = window;
    await page.getByRole("button", { name: "Delete all Docker data" }).click();
    const dialog = page.getByRole("dialog");
    const really = dialog.getByRole("button", { name: "Delete all Docker data" });
    expect(await really.isDisabled()).toBe(true);
    await dialog.getByRole("textbox").fill("delete");
    await really.click();
    await until(() => {
      try {
        return machine.docker("volume", "ls", "-q") === "" && machine.docker("ps", "-aq") === "";
      } catch {
        return false;
      }
    });
  });

  test("no script failed", () => {
    // The tests above cause refused requests on purpose.
    expect(window.errors.filter((error) => !/Failed to load resource/.test(error))).toEqual([]);
  });
});
