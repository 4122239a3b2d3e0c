/** What screen readers are told; `LiveRegion` shows it to them. */
import { signal } from "@preact/signals";

export const announcement = signal("");

/** Longer texts are cut: nobody wants to hear a page of code unasked. */
const LONGEST = 1000;

export function announce(text: string): void {
  announcement.value = text.length > LONGEST ? `${text.slice(0, LONGEST)}…` : text;
}
