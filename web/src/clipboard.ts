import { announce } from "./announcer";

/** Copies text, says so to screen readers, and returns whether it worked. */
export async function copyText(text: string): Promise<boolean> {
  let copied = true;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Browsers offer the clipboard to https and localhost only; the old way works elsewhere.
    copied = copyBySelection(text);
  }
  announce(copied ? "Copied" : "Could not copy");
  return copied;
}

function copyBySelection(text: string): boolean {
  const area = document.createElement("textarea");
  const focused = document.activeElement;
  area.value = text;
  area.className = "visually-hidden";
  document.body.append(area);
  area.select();
  const copied = document.execCommand("copy");
  area.remove();
  if (focused instanceof HTMLElement) focused.focus();
  return copied;
}
