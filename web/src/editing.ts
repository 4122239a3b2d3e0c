/** Which message is being edited: only the last of the user can be, and not during an answer. */
import { computed, signal } from "@preact/signals";
import { live } from "./answering";
import { shown } from "./chats";
import { lastUserMessage } from "./conversation";

const wanted = signal<string | null>(null);

export const editable = computed(() =>
  shown.value && !live.value ? (lastUserMessage(shown.value)?.id ?? null) : null,
);
export const editing = computed(() => (editable.value === wanted.value ? wanted.value : null));

export function edit(id: string | null): void {
  wanted.value = id;
}
