/** Touch keyboards have no Shift+Enter: there Enter makes a new line and a button sends. */
const touch = matchMedia("(pointer: coarse)");

/** Whether this key press asks to send the text. */
export function sends(event: KeyboardEvent): boolean {
  return event.key === "Enter" && !event.shiftKey && !event.isComposing && !touch.matches;
}
