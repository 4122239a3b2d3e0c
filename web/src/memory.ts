/** The server's memory and the conversations of this browser: opened, paused, forgotten. */
import { computed, signal } from "@preact/signals";
import { announce } from "./announcer";
import { stop } from "./answering";
import { ServerError } from "./api";
import {
  conversationOf,
  conversations,
  createConversation,
  type Draft,
  nextDraft,
  removeConversation,
  setMemory,
  setMessages,
  show,
  shown,
} from "./chats";
import { apiKey } from "./connection";
import { type Conversation, newId, sessionOf, titleOf, withSaid } from "./conversation";
import { closeDialog, dialog } from "./dialogs";
import type { Episode } from "./episode";
import * as api from "./memory-api";

/** What the panel shows. */
export type View =
  | { at: "start" }
  | { at: "episode"; id: string }
  | { at: "forget"; what: api.Selection; title: string };

/** The views that lead to the one shown, which is the last. */
export const trail = signal<readonly View[]>([]);
/** What was searched for last; empty: the sessions are listed. */
export const query = signal("");

export function openMemory(view: View = { at: "start" }): void {
  if (view.at === "start") query.value = "";
  trail.value = [view];
  dialog.value = { kind: "memory" };
}

export const goTo = (view: View): void => void (trail.value = [...trail.value, view]);

export function goBack(): void {
  if (trail.value.length > 1) trail.value = trail.value.slice(0, -1);
  else closeDialog();
}

/** After forgetting: other views on the way may have shown what is gone. */
export function leaveForgotten(): void {
  trail.value = trail.value.filter(({ at }) => at === "start");
  if (trail.value.length === 0) closeDialog();
}

/** The conversation shown, or the one that begins with the next message. */
const current = (): Conversation | Draft => shown.value ?? nextDraft.value;

/** Whether what is said in the conversation shown is not remembered. */
export const paused = computed(() => current().paused ?? false);

/** Whether what is said in the conversation shown is not remembered; asks the server. */
export async function lookWhetherPaused(): Promise<void> {
  const conversation = current();
  const session = await api.readSession(apiKey.value, sessionOf(conversation));
  setMemory(conversation.id, { paused: session?.paused ?? false });
}

/** Remember what is said from now on in the conversation shown, or not. */
export async function setPaused(paused: boolean): Promise<void> {
  const conversation = current();
  const told = await api.pauseSession(apiKey.value, sessionOf(conversation), paused);
  setMemory(conversation.id, { paused: told.paused });
  announce(told.paused ? "Not remembered from now on" : "Remembered from now on");
}

/** Shows a session as a conversation that goes on. */
export async function openSession(name: string): Promise<void> {
  const session = await api.readSession(apiKey.value, name);
  if (!session) throw new ServerError("This conversation is not remembered any more.", 404);
  let conversation = ofSession(name)[0];
  if (!conversation) {
    conversation = createConversation(session.title);
    setMemory(conversation.id, { session: name });
  }
  setMemory(conversation.id, { paused: session.paused });
  take(conversation, session);
  show(conversation.id);
  closeDialog();
}

/** Forgets on the server and in this browser, which would else tell it the server again. */
export async function forget(what: api.Selection): Promise<api.Receipt> {
  const { examples } = await api.wouldForget(apiKey.value, what);
  const receipt = await api.forget(apiKey.value, what);
  const ids = new Set(examples.map(({ id }) => id));
  const sessions = new Set(examples.map(({ session }) => session));
  const whole = "session" in what ? what.session : null;
  if (whole !== null) sessions.add(whole);
  const gone = ({ id, session }: Episode): boolean =>
    ids.has(id) || (session !== "" && session === whole);
  for (const conversation of conversations.value) {
    const messages = conversation.messages.map((message) =>
      message.role === "assistant" && message.recalled?.some(gone)
        ? { ...message, recalled: message.recalled.filter((episode) => !gone(episode)) }
        : message,
    );
    if (messages.some((message, index) => message !== conversation.messages[index])) {
      setMessages(conversation.id, messages, conversation.updated);
    }
  }
  // Sessions that parted from one another have texts in common.
  const tells = ({ messages }: Conversation): boolean =>
    messages.some(({ text }) => examples.some((episode) => text.includes(episode.text)));
  for (const conversation of conversations.value) {
    const name = sessionOf(conversation);
    if (!sessions.has(name) && !tells(conversation)) continue;
    stop(conversation.id);
    const session = await api.readSession(apiKey.value, name);
    const now = conversationOf(conversation.id);
    if (!now) continue;
    if (session && session.said.length > 0) take(now, session);
    else if (sessions.has(name)) removeConversation(now.id);
  }
  return receipt;
}

const ofSession = (name: string): Conversation[] =>
  conversations.value.filter((conversation) => sessionOf(conversation) === name);

/** What the server has of a conversation replaces what the browser has. */
function take(conversation: Conversation, { said }: api.Session): void {
  if (conversation.messages.some((m) => m.role === "assistant" && m.ending === "streaming")) return;
  const { system, messages } = withSaid(conversation, said, newId);
  const first = messages.find(({ role, text }) => role === "user" && text !== "");
  setMemory(conversation.id, { system, title: titleOf(first?.text ?? "") });
  setMessages(conversation.id, messages, conversation.updated);
}
