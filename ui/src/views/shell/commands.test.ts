import { describe, expect, it } from "vitest";

import { type Command, rank } from "./commands";

const command = (title: string, kind: Command["kind"] = "container"): Command => ({
  id: title,
  title,
  kind,
  run: () => undefined,
});
const titles = (all: Command[], query: string) => rank(all, query).map(({ title }) => title);

describe("ranking of search results", () => {
  const all = [
    command("Start web", "action"),
    command("my-webhook"),
    command("cobweb"),
    command("web"),
    command("shop-web-1"),
    command("database"),
  ];

  it("puts titles that begin with the query first, then words that do, then the rest", () => {
    expect(titles(all, "web")).toEqual(["web", "my-webhook", "shop-web-1", "Start web", "cobweb"]);
  });

  it("requires every word, in any order and case", () => {
    expect(titles(all, "WEB start")).toEqual(["Start web"]);
    expect(titles(all, "web nothing")).toEqual([]);
  });

  it("keeps the order without a query", () => expect(rank(all, "  ")).toBe(all));

  it("ranks ten thousand commands", () => {
    const many = Array.from({ length: 10_000 }, (_, index) => command(`container-${index}`));
    expect(rank(many, "container-9999")[0]?.title).toBe("container-9999");
  });
});
