import { describe, expect, it } from "vitest";

import type { ContainerRun } from "./backend";
import { commandLine, dockerRun, quote, splitWords } from "./commandLine";

const NOTHING: ContainerRun = {
  image: "nginx",
  name: null,
  ports: [],
  volumes: [],
  environment: [],
  command: [],
  restart: null,
  network: null,
  remove: false,
  interactive: false,
  platform: null,
};
const line = (more: Partial<ContainerRun>) => commandLine(dockerRun({ ...NOTHING, ...more }));

describe("the docker run of a form", () => {
  it("contains only what was filled in", () => expect(line({})).toBe("docker run -d nginx"));

  it("contains everything that was filled in", () => {
    expect(
      line({
        name: "web",
        ports: ["8080:80", "127.0.0.1:53:53/udp"],
        volumes: ["data:/data"],
        environment: [{ name: "GREETING", value: "it's here" }],
        command: ["sh", "-c", "echo $GREETING"],
        restart: "always",
        network: "shop_default",
        platform: "linux/arm64",
      }),
    ).toBe(
      "docker run -d --name web --restart always --network shop_default --platform linux/arm64 -p 8080:80 " +
        `-p 127.0.0.1:53:53/udp -v data:/data -e 'GREETING=it'\\''s here' nginx sh -c 'echo $GREETING'`,
    );
  });

  it("keeps a terminal and cleans up", () =>
    expect(line({ interactive: true, remove: true })).toBe("docker run -dit --rm nginx"));
  it("has a placeholder for the image", () => expect(line({ image: "" })).toBe("docker run -d IMAGE"));
  it("omits docker's default policy", () => expect(line({ restart: "no" })).toBe("docker run -d nginx"));
});

describe("words of a shell", () => {
  it.each(["plain-word_1", "a=b", "/path:/to,ro"])("%s needs no quotes", (word) => expect(quote(word)).toBe(word));
  it.each(["", "two words", "$HOME", "it's", "a;b", "*", "~", "ü"])("%j is quoted and read back as it was", (word) => {
    expect(quote(word)).not.toBe(word);
    expect(splitWords(quote(word).replaceAll("'\\''", `'"'"'`))).toEqual([word]);
    expect(splitWords(quote(word))).toEqual([word]);
  });

  it("splits as a shell does", () => {
    expect(splitWords(`  sh -c "echo \\"a b\\"" c\\ d ''`)).toEqual(["sh", "-c", 'echo "a b"', "c d", ""]);
    expect(splitWords("")).toEqual([]);
  });

  it("returns null while a quote is open", () => {
    expect(splitWords("echo 'a")).toBeNull();
    expect(splitWords('echo "a\\"')).toBeNull();
  });
});
