/** Some models write their thoughts between tags before the answer proper. */

export interface Parts {
  thoughts: string;
  answer: string;
  /** The thoughts have not ended yet. */
  thinking: boolean;
}

const OPEN = "<think>";
const CLOSE = "</think>";

/**
 * Splits off thoughts at the start.
 *
 * Templates may put the opening tag into the prompt; then a closing tag that begins a line, and
 * that no opening tag goes before, ends the thoughts.
 */
export function splitThoughts(text: string): Parts {
  const start = text.trimStart();
  const opened = start.startsWith(OPEN);
  let end = start.indexOf(CLOSE);
  if (!opened && (start[end - 1] !== "\n" || start.slice(0, end).includes(OPEN))) end = -1;
  if (end < 0 && !opened) return { thoughts: "", answer: text, thinking: false };
  const from = opened ? OPEN.length : 0;
  const thoughts = (end < 0 ? start.slice(from) : start.slice(from, end)).trim();
  return {
    thoughts,
    answer: end < 0 ? "" : start.slice(end + CLOSE.length).trimStart(),
    thinking: end < 0,
  };
}
