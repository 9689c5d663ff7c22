import { describe, expect, it } from "vitest";

import { ago, bytes, count, memory, percent, portUrl, short, span } from "./format";

describe("amounts", () => {
  it.each([
    [0, "0 B"],
    [999, "999 B"],
    [1000, "1 kB"],
    [999_499, "999 kB"],
    [999_500, "1 MB"],
    [1_234_567, "1.23 MB"],
    [12_345_678, "12.3 MB"],
    [1.5e12, "1.5 TB"],
    [2e16, "20000 TB"],
  ])("%d bytes are written %s", (given, written) => expect(bytes(given)).toBe(written));

  it.each([
    [512 * 2 ** 20, "512 MiB"],
    [4 * 2 ** 30, "4 GiB"],
    [1023.9 * 2 ** 20, "1 GiB"],
    [600, "600 B"],
  ])("%d bytes of memory are written %s", (given, written) => expect(memory(given)).toBe(written));

  it("writes small percentages with a digit and large ones without", () => {
    expect([0, 0.04, 9.94, 9.95, 250.4].map(percent)).toEqual(["0.0%", "0.0%", "9.9%", "10%", "250%"]);
  });

  it("handles singular and plural", () => {
    expect(count(1, "image")).toBe("1 image");
    expect(count(5000, "image")).toBe("5,000 images");
    expect(count(2, "is", "are")).toBe("2 are");
  });
});

describe("times", () => {
  const now = 1_700_000_000_000;
  it.each([
    [4_900, "just now"],
    [5_000, "5 s ago"],
    [59_999, "59 s ago"],
    [60_000, "1 min ago"],
    [3_600_000, "1 h ago"],
    [86_400_000 * 6, "6 d ago"],
    [86_400_000 * 8, "1 w ago"],
    [86_400_000 * 800, "2 y ago"],
    [-120_000, "in 2 min"],
  ])("what is %d ms old is %s", (age, written) => expect(ago(now - age, now)).toBe(written));

  it.each([
    [300, "0.3 s"],
    [9_949, "9.9 s"],
    [9_960, "10 s"],
    [200_000, "3 min 20 s"],
    [7_500_000, "2 h 5 min"],
    [200_000_000, "2 d 7 h"],
  ])("%d ms take %s", (given, written) => expect(span(given)).toBe(written));
});

describe("names", () => {
  it("shortens identifiers as docker does", () => expect(short(`sha256:${"ab".repeat(32)}`)).toBe("abababababab"));

  it("opens every address of this computer on localhost", () => {
    for (const address of [null, "0.0.0.0", "::", "127.0.0.1", "::1"])
      expect(portUrl(address, 8080)).toBe("http://localhost:8080");
    expect(portUrl("fd00::2", 8443)).toBe("https://[fd00::2]:8443");
    expect(portUrl("192.0.2.7", 443)).toBe("https://192.0.2.7:443");
  });
});
