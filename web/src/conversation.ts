/** What a conversation is, and the pure functions on it. Nothing here touches the browser. */

import { readEpisodes, type Recalled } from "./episode";

export interface Settings {
  /** Null: the first model that the server lists. */
  model: string | null;
  system: string;
  /** Null, here and below: not sent, so that the server's own default holds. */
  temperature: number | null;
  topP: number | null;
  maxTokens: number | null;
  seed: number | null;
}

export interface UserMessage {
  id: string;
  role: "user";
  text: string;
}

/** Why an answer has no more text. "streaming" only while it is being received. */
export type Ending = "streaming" | "stop" | "length" | "cancelled" | "failed";

/** What one answer cost. Tokens are the server's count, times are measured here. */
export interface Cost {
  promptTokens: number;
  cachedTokens: number;
  completionTokens: number;
}

export interface Timing {
  /** From the request to the first text. */
  firstTextMs: number;
  /** From the first text to the last. */
  decodeMs: number;
}

export interface Failure {
  /** HTTP status; null when no response arrived, or when a stream broke off. */
  status: number | null;
  message: string;
}

export interface Answer {
  id: string;
  role: "assistant";
  text: string;
  model: string;
  ending: Ending;
  cost?: Cost;
  timing?: Timing;
  failure?: Failure;
  /** What the server remembered for it. */
  recalled?: Recalled[];
}

export type Message = UserMessage | Answer;

export interface Conversation {
  id: string;
  title: string;
  /** Milliseconds since 1970 of the last change; the list shows the newest first. */
  updated: number;
  settings: Settings;
  messages: Message[];
  /** Name of its session in the server's memory, where that is not made from the id. */
  session?: string;
  /** What is said in it is not remembered. */
  paused?: boolean;
}

/** A message as the server reads it. */
export interface ChatMessage {
  role: "system" | "user" | "assistant";
  content: string;
}

export const DEFAULT_SETTINGS: Settings = {
  model: null,
  system: "",
  // As in `everlong chat`: small models wander at the 1.0 that the protocol prescribes.
  temperature: 0.7,
  topP: 0.95,
  maxTokens: null,
  seed: null,
};

/** Every message and conversation has its own. */
export const newId = (): string => crypto.getRandomValues(new Uint32Array(2)).join("-");

/** Name of the session in which the server remembers a conversation. */
export const sessionOf = ({ id, session }: Pick<Conversation, "id" | "session">): string =>
  session ?? `page-${id}`;

const TITLE_LENGTH = 60;

/** The first line that says something, shortened at a word. */
export function titleOf(text: string): string {
  const line = text.trim().split("\n", 1)[0]!.trim().replace(/\s+/g, " ");
  if (line.length <= TITLE_LENGTH) return line || "New chat";
  const cut = line.slice(0, TITLE_LENGTH);
  const space = cut.lastIndexOf(" ");
  return `${cut.slice(0, space > TITLE_LENGTH / 2 ? space : TITLE_LENGTH)}…`;
}

/** The messages to send: the system prompt first, answers without text left out. */
export function chatMessages(conversation: Conversation): ChatMessage[] {
  const { system } = conversation.settings;
  return [
    ...(system.trim() ? [{ role: "system" as const, content: system }] : []),
    ...conversation.messages
      .filter((message) => message.role === "user" || message.text !== "")
      .map(({ role, text }) => ({ role, content: text })),
  ];
}

export function lastUserMessage(conversation: Conversation): UserMessage | undefined {
  return conversation.messages.findLast((message) => message.role === "user");
}

/** The messages up to and including the last of the user, whose text becomes `text` if given. */
export function upToLastUserMessage(conversation: Conversation, text?: string): Message[] {
  const end = conversation.messages.findLastIndex((message) => message.role === "user");
  const kept = conversation.messages.slice(0, end + 1);
  const last = kept.at(-1);
  if (last !== undefined && text !== undefined) kept[end] = { ...last, text };
  return kept;
}

/**
 * What a session has said, as a conversation: its system prompt and its messages.
 *
 * Messages that are the same keep what the browser knows of them, such as their cost.
 */
export function withSaid(
  { messages }: Conversation,
  said: ChatSaid[],
  makeId: () => string,
): { system: string; messages: Message[] } {
  const system = said.filter(({ role }) => role === "system").map(({ content }) => content);
  let known = 0;
  const merged = said.flatMap(({ role, content }): Message[] => {
    if (role !== "user" && role !== "assistant") return [];
    const same = messages.findIndex(
      (message, index) =>
        index >= known && message.role === role && message.text.trim() === content.trim(),
    );
    if (same >= 0) {
      known = same + 1;
      return [messages[same]!];
    }
    const id = makeId();
    return role === "user"
      ? [{ id, role, text: content }]
      : [{ id, role, text: content, model: "", ending: "stop" }];
  });
  return { system: system.join("\n\n"), messages: merged };
}

/** A message as a session has it. */
export interface ChatSaid {
  role: string;
  content: string;
}

/**
 * A conversation read from storage, or null where it is not one.
 *
 * An answer that was being received when the page closed counts as cancelled.
 */
export function parseConversation(json: string): Conversation | null {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch {
    return null;
  }
  if (!isConversation(value)) return null;
  const messages = value.messages.map((message): Message => {
    if (message.role === "user") return message;
    const ending = message.ending === "streaming" ? "cancelled" : message.ending;
    return { ...message, ending, ...(message.recalled && { recalled: readEpisodes(message.recalled) }) };
  });
  return { ...value, messages, settings: { ...DEFAULT_SETTINGS, ...value.settings } };
}

function isConversation(value: unknown): value is Conversation {
  const { id, title, updated, settings, messages, session } = (value ?? {}) as Partial<Conversation>;
  return (
    typeof id === "string" &&
    typeof title === "string" &&
    typeof updated === "number" &&
    typeof settings === "object" &&
    settings !== null &&
    (session === undefined || typeof session === "string") &&
    Array.isArray(messages) &&
    messages.every(isMessage)
  );
}

function isMessage(value: unknown): value is Message {
  const { id, role, text } = (value ?? {}) as Partial<Message>;
  return (
    typeof id === "string" && typeof text === "string" && (role === "user" || role === "assistant")
  );
}
