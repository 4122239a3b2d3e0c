/**
 * Markdown to HTML, block by block, for text that is still growing.
 *
 * The HTML made here is not trusted: it passes through `sanitize.ts` before it meets the page.
 */
import { Lexer, Marked, type Token, type Tokens } from "marked";
import { highlight } from "./highlight";

/** Tags without attributes that models like to write; every other tag is shown as text. */
const PLAIN_TAG = /^<\/?(?:b|br|del|em|i|ins|kbd|mark|s|small|strong|sub|sup|u)\s*\/?>$/i;
/** An answer sits under the page's own headings (levels 1 and 2). */
const HEADING_OFFSET = 2;

const ENTITIES: Record<string, string> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};

export function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (character) => ENTITIES[character]!);
}

const marked = new Marked({
  gfm: true,
  renderer: {
    code({ text, lang }: Tokens.Code): string {
      const language = (lang ?? "").trim().split(/\s/, 1)[0]!.toLowerCase();
      const html = highlight(text, language) ?? escapeHtml(text);
      return `<pre><code data-language="${escapeHtml(language)}">${html}</code></pre>`;
    },
    heading({ tokens, depth }: Tokens.Heading): string {
      const level = Math.min(6, depth + HEADING_OFFSET);
      return `<h${level} data-depth="${depth}">${this.parser.parseInline(tokens)}</h${level}>`;
    },
    html({ text }: Tokens.HTML | Tokens.Tag): string {
      return PLAIN_TAG.test(text) ? text : escapeHtml(text);
    },
    // An image would be fetched unasked, from wherever the model says: it becomes a link.
    image({ href, text }: Tokens.Image): string {
      return `<a href="${escapeHtml(href)}">${escapeHtml(text || href)}</a>`;
    },
    checkbox({ checked }: Tokens.Checkbox): string {
      return checked ? "☑ " : "☐ ";
    },
  },
});

type Links = Lexer["tokens"]["links"];

/** Blocks at the end of the text that more text may still change or join. */
const UNSETTLED = 2;

/**
 * Splits growing text into its top-level blocks.
 *
 * What is settled is never read again, so that a long answer costs no more per step than a
 * short one. `tests/markdown.test.ts` compares with reading all at once.
 */
export class BlockReader {
  #settled: Token[] = [];
  #settledLength = 0;
  #links: Links = {};
  #text = "";

  /** The blocks of `source`; the same token objects as before where nothing changed. */
  read(source: string): Token[] {
    const text = source.replace(/\r\n?/g, "\n");
    if (!text.startsWith(this.#text)) this.reset();
    this.#text = text;

    const lexer = new Lexer(marked.defaults);
    lexer.tokens.links = { ...this.#links };
    const tail = lexer.lex(text.slice(this.#settledLength));

    const visible = tail.flatMap((token, index) => (token.type === "space" ? [] : [index]));
    const settle = visible.at(-UNSETTLED) ?? 0;
    for (const token of tail.splice(0, settle)) {
      this.#settled.push(token);
      this.#settledLength += token.raw.length;
    }
    this.#links = lexer.tokens.links;
    return [...this.#settled, ...tail];
  }

  /** Forgets all, so that the next read starts from nothing. */
  reset(): void {
    this.#settled = [];
    this.#settledLength = 0;
    this.#links = {};
    this.#text = "";
  }
}

/** Untrusted HTML of one block; empty for blank lines and link definitions. */
export function blockHtml(token: Token): string {
  return marked.parser([token]);
}
