/** Shows markdown in an element and keeps up with its growth at little cost. */
import type { Token } from "marked";
import { copyText } from "./clipboard";
import { BlockReader, blockHtml } from "./markdown";
import { sanitize } from "./sanitize";

/** An item of a task list brings its box, as `markdown.ts` draws it, in place of a bullet. */
const TASK = /^\s*[☑☐]/;

interface ShownBlock {
  raw: string;
  html: string;
  element: HTMLElement;
}

export class MarkdownView {
  #reader = new BlockReader();
  #shown: ShownBlock[] = [];

  constructor(readonly root: HTMLElement) {}

  /**
   * Shows `text`. Elements of blocks that did not change stay as they are, so that a
   * selection in them survives.
   *
   * @param finished no more text will come: everything is read again, because a link
   *   defined late may be used early.
   */
  show(text: string, finished: boolean): void {
    if (finished) this.#reader.reset();
    const tokens = this.#reader.read(text);
    tokens.forEach((token, index) => this.#showBlock(token, index, finished));
    for (const { element } of this.#shown.splice(tokens.length)) element.remove();
  }

  #showBlock(token: Token, index: number, finished: boolean): void {
    const shown = this.#shown[index];
    if (shown?.raw === token.raw && !finished) return;
    const html = blockHtml(token);
    if (shown?.html === html) {
      shown.raw = token.raw;
      return;
    }
    const element = shown?.element ?? document.createElement("div");
    if (!shown) {
      // Each block finds its own direction: an Arabic paragraph may follow an English one.
      element.className = "block";
      element.dir = "auto";
      this.root.append(element);
    }
    element.replaceChildren(dressed(sanitize(html)));
    element.hidden = element.childNodes.length === 0;
    this.#shown[index] = { raw: token.raw, html, element };
  }
}

/** Adds what the page itself brings: a bar over code, a scroller around tables, task lists. */
function dressed(content: DocumentFragment): DocumentFragment {
  for (const code of content.querySelectorAll("pre")) {
    const block = document.createElement("div");
    block.className = "code";
    block.dir = "ltr";
    code.replaceWith(block);
    code.tabIndex = 0;
    block.append(codeBar(code), code);
  }
  for (const item of content.querySelectorAll("li")) {
    if (TASK.test(item.textContent ?? "")) item.className = "task";
  }
  for (const table of content.querySelectorAll("table")) {
    const scroller = document.createElement("div");
    scroller.className = "table";
    scroller.tabIndex = 0;
    table.replaceWith(scroller);
    scroller.append(table);
  }
  return content;
}

function codeBar(code: HTMLPreElement): HTMLElement {
  const bar = document.createElement("div");
  bar.className = "code-bar";
  const language = document.createElement("span");
  language.textContent = code.querySelector("code")?.dataset["language"] || "text";
  const button = document.createElement("button");
  button.type = "button";
  button.className = "quiet";
  button.textContent = "Copy";
  button.setAttribute("aria-label", "Copy code");
  button.addEventListener("click", () => {
    void copyText(code.textContent ?? "").then((copied) => {
      button.textContent = copied ? "Copied" : "Not copied";
      setTimeout(() => (button.textContent = "Copy"), 1500);
    });
  });
  bar.append(language, button);
  return bar;
}
