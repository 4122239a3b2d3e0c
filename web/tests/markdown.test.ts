import { describe, expect, it } from "vitest";
import { BlockReader, blockHtml } from "../src/markdown";

const html = (text: string): string => new BlockReader().read(text).map(blockHtml).join("");

/** Pieces whose meaning depends on what stands around them. */
const PIECES = [
  "word",
  "**bold**",
  "***",
  "---",
  "===",
  "#",
  "# heading",
  "- item",
  "* item",
  "1. item",
  "  - nested",
  "    indented",
  "> quote",
  "| a | b |",
  "|---|---|",
  "```",
  "```py",
  "~~~",
  "<div>",
  "</div>",
  "<!--",
  "[x]: https://example.org",
  "[x]",
  "`code`",
  "\\",
  "",
  "",
  " ",
];

/** A small generator, so that a failure can be repeated. */
function* random(seed: number): Generator<number, never> {
  for (let state = seed; ; ) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    yield state / 2 ** 32;
  }
}

describe("BlockReader", () => {
  it("reads growing text as it reads the whole", () => {
    for (let seed = 1; seed <= 1000; seed++) {
      const dice = random(seed);
      const pick = (n: number): number => Math.floor(dice.next().value * n);
      const text = Array.from({ length: 12 }, () => PIECES[pick(PIECES.length)]).join("\n");
      const growing = new BlockReader();
      let blocks = growing.read("");
      for (let end = 0; end < text.length; ) {
        end = Math.min(text.length, end + 1 + pick(4));
        blocks = growing.read(text.slice(0, end));
      }
      const visible = (tokens: typeof blocks): string[] =>
        tokens.filter(({ type }) => type !== "space").map(({ raw }) => raw.trimEnd());
      expect(visible(blocks), JSON.stringify(text)).toEqual(visible(new BlockReader().read(text)));
    }
  });

  it("keeps the tokens of blocks that are settled", () => {
    const reader = new BlockReader();
    const before = reader.read("one\n\ntwo\n\nthree\n\nfour");
    const after = reader.read("one\n\ntwo\n\nthree\n\nfour and more");
    expect(after[0]).toBe(before[0]);
    expect(after.at(-1)!.raw).toBe("four and more");
  });

  it("starts again when the text is another", () => {
    const reader = new BlockReader();
    reader.read("one\n\ntwo\n\nthree\n\nfour");
    expect(reader.read("other").map(({ raw }) => raw)).toEqual(["other"]);
  });
});

describe("blockHtml", () => {
  it("shows raw HTML as text, but for plain tags", () => {
    expect(html("<script>alert(1)</script>")).not.toContain("<script");
    expect(html("a <img src=x onerror=alert(1)> b")).toContain("&lt;img");
    expect(html("H<sub>2</sub>O<br>x")).toContain("H<sub>2</sub>O<br>x");
    expect(html('<b onclick="x">')).toContain("&lt;b onclick");
  });

  it("turns images into links", () => {
    expect(html("![alt](https://example.org/a.png)")).toBe(
      '<p><a href="https://example.org/a.png">alt</a></p>\n',
    );
  });

  it("highlights known languages and escapes the others", () => {
    expect(html("```python\ndef f(): pass\n```")).toContain('<span class="hljs-keyword">def</span>');
    expect(html("```\n<b>&\n```")).toContain("&lt;b&gt;&amp;");
    expect(html('```"><img\nx\n```')).toContain('data-language="&quot;&gt;&lt;img"');
  });

  it("puts headings below those of the page", () => {
    expect(html("# one")).toBe('<h3 data-depth="1">one</h3>');
    expect(html("###### six")).toBe('<h6 data-depth="6">six</h6>');
  });

  it("draws the boxes of task lists", () => {
    expect(html("- [x] done\n- [ ] open")).toMatch(/☑ .*done[\s\S]*☐ .*open/);
  });
});
