import { describe, expect, it } from "vitest";

import { World } from "../../lib/backend/fixtures/world";
import { ordered, rows } from "./groups";

const { containers } = new World("").objects;
const names = (filter: string, runningOnly = false, folded = new Set<string>()) =>
  rows(ordered(containers), filter, runningOnly, folded).map((row) =>
    row.kind === "project" ? `${row.project}/` : row.container.name,
  );

describe("rows of containers", () => {
  it("list projects first, by name, with their members, then the others, running ones first", () => {
    expect(names("")).toEqual([
      "monitoring/",
      "monitoring-grafana-1",
      "monitoring-prometheus-1",
      "shop/",
      "shop-api-1",
      "shop-cache-1",
      "shop-db-1",
      "shop-web-1",
      "shop-worker-1",
      "flaky-importer",
      "hello",
      "registry",
      "sandbox",
      "migrate-2024-11",
      "python-notebook",
    ]);
  });

  it("omit members of a folded project unless the filter matches them", () => {
    const folded = new Set(["shop"]);
    expect(names("", false, folded)).not.toContain("shop-api-1");
    expect(names("shop-api", false, folded)).toContain("shop-api-1");
  });

  it("show only running containers on request", () => {
    expect(names("", true)).not.toContain("shop-worker-1");
    expect(names("", true)).toContain("sandbox");
  });

  it("match every word of the filter against name, image, project and port", () => {
    const api = containers.find((one) => one.name === "shop-api-1");
    if (!api) throw new Error("the made-up engine has no api");
    for (const filter of ["API", "shop api", "9229", api.id.slice(0, 12)])
      expect(names(filter)).toContain("shop-api-1");
    expect(names("api postgres")).toEqual([]);
  });
});
