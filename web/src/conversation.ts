/** What a conversation is, and the pure functions on it. Nothing here touches the browser. */

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
}

export type Message = UserMessage | Answer;

export interface Conversation {
  id: string;
  title: string;
  /** Milliseconds since 1970 of the last change; the list shows the newest first. */
  updated: number;
  settings: Settings;
  messages: Message[];
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
  const messages = value.messages.map((message) =>
    message.role === "assistant" && message.ending === "streaming"
      ? { ...message, ending: "cancelled" as const }
      : message,
  );
  return { ...value, messages, settings: { ...DEFAULT_SETTINGS, ...value.settings } };
}

function isConversation(value: unknown): value is Conversation {
  const { id, title, updated, settings, messages } = (value ?? {}) as Partial<Conversation>;
  return (
    typeof id === "string" &&
    typeof title === "string" &&
    typeof updated === "number" &&
    typeof settings === "object" &&
    settings !== null &&
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
