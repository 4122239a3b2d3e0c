/** The conversations of this browser: which there are, which one is shown, and changes to them. */
import { computed, signal } from "@preact/signals";
import { type Conversation, type Message, newId, type Settings, titleOf } from "./conversation";
import * as storage from "./storage";

const byId = signal<ReadonlyMap<string, Conversation>>(new Map());
/** Settings of the next new conversation. */
const nextSettings = signal(storage.loadSettings());
/** What is known of the next new conversation: it may be paused before it begins. */
export type Draft = Pick<Conversation, "id" | "session" | "paused">;
const draft = (): Draft => ({ id: `${newId()}-${newId()}` });
export const nextDraft = signal(draft());
const shownId = signal<string | null>(null);

/** True once the browser refused to keep something. */
export const storageFull = signal(false);

/** Newest first. */
export const conversations = computed(() =>
  [...byId.value.values()].sort((a, b) => b.updated - a.updated),
);
/** The conversation shown; null is a new one, which exists once it has a message. */
export const shown = computed(() => byId.value.get(shownId.value ?? "") ?? null);
export const settings = computed(() => shown.value?.settings ?? nextSettings.value);

export const conversationOf = (id: string): Conversation | undefined => byId.value.get(id);

// The conversation is named in the address, so that reload, back and forward work.
const HASH = /^#\/c\/([\w-]+)$/;
export const addressOf = (id: string): string => `#/c/${id}`;

/** Reads what the browser keeps and follows its changes; called once. */
export function openChats(): void {
  byId.value = new Map(storage.loadConversations().map((chat) => [chat.id, chat]));
  const follow = (): void => {
    shownId.value = HASH.exec(location.hash)?.[1] ?? null;
  };
  follow();
  addEventListener("hashchange", follow);
  storage.watchOtherTabs((id, now) => put(id, now));
}

export function show(id: string | null): void {
  if (id !== null) location.hash = addressOf(id);
  else history.pushState(null, "", location.pathname + location.search);
  shownId.value = id;
}

function put(id: string, conversation: Conversation | null): void {
  const next = new Map(byId.value);
  if (conversation) next.set(id, conversation);
  else next.delete(id);
  byId.value = next;
}

export function createConversation(firstText: string): Conversation {
  const conversation: Conversation = {
    ...nextDraft.value,
    title: titleOf(firstText),
    updated: Date.now(),
    settings: nextSettings.value,
    messages: [],
  };
  nextDraft.value = draft();
  put(conversation.id, conversation);
  show(conversation.id);
  return conversation;
}

/** Replaces the messages of a conversation. */
export function setMessages(id: string, messages: Message[], updated = Date.now()): void {
  const conversation = byId.value.get(id);
  if (!conversation) return;
  const next = { ...conversation, messages, updated };
  put(id, next);
  storageFull.value = !storage.saveConversation(next);
}

/** Changes what a conversation, or the next new one, is in the server's memory. */
export function setMemory(
  id: string,
  change: { session?: string; paused?: boolean; title?: string; system?: string },
): void {
  const { system, title, ...rest } = change;
  if (nextDraft.value.id === id) nextDraft.value = { ...nextDraft.value, ...rest };
  const conversation = byId.value.get(id);
  if (!conversation) return;
  const settings = { ...conversation.settings, ...(system !== undefined && { system }) };
  const next = { ...conversation, ...rest, ...(title !== undefined && { title }), settings };
  put(id, next);
  storageFull.value = !storage.saveConversation(next);
}

/** Changes the settings of the conversation shown and of the next new one. */
export function changeSettings(change: Partial<Settings>): void {
  const next = { ...settings.value, ...change };
  nextSettings.value = next;
  storage.saveSettings(next);
  if (!shown.value) return;
  const conversation = { ...shown.value, settings: next };
  put(conversation.id, conversation);
  storageFull.value = !storage.saveConversation(conversation);
}

export function removeConversation(id: string): void {
  storage.deleteConversation(id);
  storageFull.value = false;
  if (shownId.value === id) show(null);
  put(id, null);
}
