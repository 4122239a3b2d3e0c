/** Which dialog is open; at most one is. */
import { signal } from "@preact/signals";

export type Dialog =
  | { kind: "chats" }
  | { kind: "settings" }
  | { kind: "memory" }
  | { kind: "delete"; id: string };

export const dialog = signal<Dialog | null>(null);
export const closeDialog = (): void => void (dialog.value = null);
