/** Some models write their thoughts between tags before the answer proper. */

export interface Parts {
  thoughts: string;
  answer: string;
  /** The thoughts have not ended yet. */
  thinking: boolean;
}

const OPEN = "<think>";
const CLOSE = "</think>";

/** Splits off thoughts at the start. Templates may put the opening tag into the prompt. */
export function splitThoughts(text: string): Parts {
  const start = text.trimStart();
  const end = start.indexOf(CLOSE);
  const opened = start.startsWith(OPEN);
  if (end < 0 && !opened) return { thoughts: "", answer: text, thinking: false };
  const from = opened ? OPEN.length : 0;
  const thoughts = (end < 0 ? start.slice(from) : start.slice(from, end)).trim();
  return {
    thoughts,
    answer: end < 0 ? "" : start.slice(end + CLOSE.length).trimStart(),
    thinking: end < 0,
  };
}
