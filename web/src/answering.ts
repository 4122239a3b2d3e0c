/** Asking for answers and receiving them; several conversations may do so at once. */
import { computed, type Signal, signal } from "@preact/signals";
import { announce } from "./announcer";
import { type Delta, ServerError, streamAnswer } from "./api";
import { conversationOf, createConversation, setMemory, setMessages, shown } from "./chats";
import { apiKey, failureOf, models, remembers } from "./connection";
import {
  type Answer,
  chatMessages,
  type Conversation,
  type Ending,
  type Failure,
  lastUserMessage,
  newId,
  sessionOf,
  type Settings,
  upToLastUserMessage,
} from "./conversation";
import type { MemoryNote } from "./episode";
import { pauseSession } from "./memory-api";

/** An answer being received. */
export interface Live {
  readonly answerId: string;
  readonly text: Signal<string>;
  /** When the server was busy: the time (performance.now) of the next try. */
  readonly retryAt: Signal<number | null>;
  readonly controller: AbortController;
}

const lives = signal<ReadonlyMap<string, Live>>(new Map());

export const liveOf = (conversationId: string): Live | undefined => lives.value.get(conversationId);
/** The answer being received in the conversation shown. */
export const live = computed(() => (shown.value ? liveOf(shown.value.id) : undefined));

const SAVE_EVERY_MS = 2000;
const BUSY_TRIES = 20;
const BUSY_WAIT_SECONDS = 2;

/** The model that a conversation uses: the chosen one, or the server's first. */
export function modelFor({ model }: Settings): string {
  const known = models.value.some(({ id }) => id === model);
  return (known ? model : models.value[0]?.id) ?? "";
}

/** Adds a message to the conversation shown, or to a new one, and asks for the answer. */
export function send(text: string): void {
  const { id, messages, paused } = shown.value ?? createConversation(text);
  // The server may have more of an answer that was stopped than arrived here.
  const last = messages.at(-1);
  if (paused && last?.role === "assistant" && last.ending === "cancelled") beginSession(id);
  setMessages(id, [...messages, { id: newId(), role: "user", text }]);
  void answer(id);
}

/** Asks again for the answer to the last message, whose text becomes `text` if given. */
export function answerAgain(id: string, text?: string): void {
  const conversation = conversationOf(id);
  if (!conversation || !lastUserMessage(conversation) || liveOf(id)) return;
  const kept = upToLastUserMessage(conversation, text);
  // Without an answer among them, the server would take the messages for new ones of the session.
  const unanswered = !kept.some(({ role }) => role === "assistant");
  if (conversation.paused || unanswered) beginSession(id);
  setMessages(id, kept);
  void answer(id);
}

export function stop(id: string): void {
  liveOf(id)?.controller.abort();
}

/** Keeps what has arrived when the page is closed. */
export function saveBeforeClosing(): void {
  addEventListener("pagehide", () => {
    for (const [id, { answerId, text }] of lives.value) {
      changeAnswer(id, answerId, { text: text.value });
    }
  });
}

async function answer(id: string): Promise<void> {
  const conversation = conversationOf(id)!;
  const model = modelFor(conversation.settings);
  const empty: Answer = { id: newId(), role: "assistant", text: "", model, ending: "streaming" };
  const state: Live = {
    answerId: empty.id,
    text: signal(""),
    retryAt: signal(null),
    controller: new AbortController(),
  };
  setMessages(id, [...conversation.messages, empty]);
  setLive(id, state);

  const received = new Receipt();
  let ending: Ending;
  let failure: Failure | undefined;
  let saved = performance.now();
  try {
    for await (const delta of stubbornly(conversation, model, state, received)) {
      received.add(delta);
      if (delta.memory) noteMemory(id, empty.id, delta.memory);
      state.text.value = received.text;
      if (performance.now() - saved > SAVE_EVERY_MS) {
        changeAnswer(id, empty.id, { text: received.text });
        saved = performance.now();
      }
    }
    ending = received.ending ?? "stop";
  } catch (error) {
    ending = state.controller.signal.aborted ? "cancelled" : "failed";
    if (ending === "failed") failure = failureOf(error);
  }
  setLive(id, null);
  changeAnswer(id, empty.id, {
    text: received.text,
    ending,
    ...(received.cost && { cost: received.cost }),
    ...(received.timing && { timing: received.timing }),
    ...(failure && { failure }),
  });
  announce(failure ? failure.message : ending === "cancelled" ? "Stopped" : received.text);
}

/** Streams an answer; while the server is too busy to start, waits as long as it asks to. */
async function* stubbornly(
  conversation: Conversation,
  model: string,
  { controller, retryAt }: Live,
  received: Receipt,
): AsyncGenerator<Delta> {
  const messages = chatMessages(conversation);
  const session = remembers.value ? sessionOf(conversation) : null;
  for (let tries = 1; ; tries++) {
    try {
      // The session may be new, or another server's.
      if (session !== null && conversation.paused) await pauseSession(apiKey.value, session, true);
      received.start();
      yield* streamAnswer(
        model,
        messages,
        conversation.settings,
        session,
        apiKey.value,
        controller.signal,
      );
      return;
    } catch (error) {
      const busy = error instanceof ServerError && error.status === 429;
      if (!busy || tries === BUSY_TRIES) throw error;
      const wait = 1000 * (error.retryAfter ?? BUSY_WAIT_SECONDS);
      retryAt.value = performance.now() + wait;
      await pause(wait, controller.signal);
      retryAt.value = null;
    }
  }
}

/** What has arrived of an answer, and when. */
class Receipt {
  text = "";
  ending: Delta["ending"] = null;
  cost: Delta["cost"] = null;
  #start = 0;
  #first: number | null = null;
  #last = 0;

  start(): void {
    this.#start = performance.now();
  }

  add({ text, ending, cost }: Delta): void {
    if (text !== "") {
      this.#last = performance.now();
      this.#first ??= this.#last;
      this.text += text;
    }
    this.ending = ending ?? this.ending;
    this.cost = cost ?? this.cost;
  }

  get timing(): Answer["timing"] {
    if (this.#first === null) return undefined;
    return { firstTextMs: this.#first - this.#start, decodeMs: this.#last - this.#first };
  }
}

/**
 * The conversation goes on in a session of its own.
 *
 * A paused one must wherever it parts from what the server has: the session that the server makes
 * for the part that differs would be remembered, and this one is paused before anything is said.
 */
function beginSession(id: string): void {
  setMemory(id, { session: `page-${id}-${newId()}` });
}

/** The conversation goes on in the session that answered: where it parted, that is another. */
function noteMemory(id: string, answerId: string, { session, recalled }: MemoryNote): void {
  const conversation = conversationOf(id);
  if (conversation && sessionOf(conversation) !== session) setMemory(id, { session });
  if (recalled.length > 0) changeAnswer(id, answerId, { recalled });
}

function changeAnswer(id: string, answerId: string, change: Partial<Answer>): void {
  const messages = conversationOf(id)?.messages.map((message) =>
    message.id === answerId && message.role === "assistant" ? { ...message, ...change } : message,
  );
  if (messages) setMessages(id, messages);
}

function setLive(id: string, state: Live | null): void {
  const next = new Map(lives.value);
  if (state) next.set(id, state);
  else next.delete(id);
  lives.value = next;
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const stopWaiting = (): void => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", stopWaiting);
      resolve();
    }, ms);
    signal.addEventListener("abort", stopWaiting, { once: true });
  });
}
