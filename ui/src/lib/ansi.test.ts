import { describe, expect, it } from "vitest";

import { plain, spans } from "./ansi";

const ESC = "\x1b";

describe("spans", () => {
  it("leaves plain text alone", () =>
    expect(spans("a line\twith a tab")).toEqual([{ text: "a line\twith a tab", style: "" }]));

  it("keeps a colour until it is reset", () => {
    expect(spans(`${ESC}[31mred ${ESC}[1mbold${ESC}[0m plain`)).toEqual([
      { text: "red ", style: "ansi-red" },
      { text: "bold", style: "ansi-red ansi-bold" },
      { text: " plain", style: "" },
    ]);
  });

  it("handles bright colours, 256 colours and an empty reset", () => {
    expect(spans(`${ESC}[92ma${ESC}[mb${ESC}[38;5;12mc${ESC}[38;5;200md`)).toEqual([
      { text: "a", style: "ansi-bright-green" },
      { text: "b", style: "" },
      { text: "c", style: "ansi-bright-blue" },
      { text: "d", style: "ansi-bright-blue" },
    ]);
  });

  it("does not mistake the parts of a true colour for colours", () => {
    expect(spans(`${ESC}[38;2;31;32;33mx`)).toEqual([{ text: "x", style: "" }]);
    expect(spans(`${ESC}[48;5;31mx`)).toEqual([{ text: "x", style: "" }]);
  });

  it("does not mistake a semicolon for a background colour", () =>
    expect(spans(`${ESC}[2;41mx`)).toEqual([{ text: "x", style: "ansi-dim" }]));
});

describe("plain", () => {
  it("drops movements, titles, links and control characters", () => {
    expect(
      plain(`${ESC}[2K${ESC}[1Gdone${ESC}]0;title\x07 ${ESC}]8;;http://x${ESC}\\link${ESC}]8;;${ESC}\\\r\x00`),
    ).toBe("done link");
  });

  it("keeps a tab", () => expect(plain("a\tb\x07")).toBe("a\tb"));
});
