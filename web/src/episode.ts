/** What the server remembers, as it tells it. Read with care: nothing here touches the browser. */

/** A remembered text. */
export interface Episode {
  id: string;
  /** Name of the session in which it was said; empty for a document. */
  session: string;
  /** "chat", or the name of a document. */
  source: string;
  speaker: string;
  /** Seconds since 1970. */
  time: number;
  text: string;
}

/** An episode that was recalled for a question. */
export interface Recalled extends Episode {
  /** How sure the memory was, from 0 to 1. */
  score: number;
}

/** An episode that a search found. */
export interface Found extends Recalled {
  /** Shares of the score, by what earned them. */
  why: [reason: string, share: number][];
}

/** What the server says of its memory at the start of an answer. */
export interface MemoryNote {
  session: string;
  recalled: Recalled[];
}

const object = (value: unknown): Record<string, unknown> =>
  typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
const text = (value: unknown): string => (typeof value === "string" ? value : "");
const number = (value: unknown): number => (Number.isFinite(value) ? (value as number) : 0);
const list = (value: unknown): unknown[] => (Array.isArray(value) ? value : []);

/** An episode, or null where it has no id. */
export function readEpisode(value: unknown): Recalled | null {
  const told = object(value);
  if (text(told.id) === "") return null;
  return {
    id: text(told.id),
    session: text(told.session),
    source: text(told.source),
    speaker: text(told.speaker),
    time: number(told.time),
    text: text(told.text),
    score: number(told.score),
  };
}

export const readEpisodes = (value: unknown): Recalled[] =>
  list(value)
    .map(readEpisode)
    .filter((episode) => episode !== null);

export function readFound(value: unknown): Found[] {
  return list(value).flatMap((told) => {
    const episode = readEpisode(told);
    if (!episode) return [];
    const why = Object.entries(object(object(told).why)).map(
      ([reason, share]): [string, number] => [reason, number(share)],
    );
    return [{ ...episode, why: why.sort(([, a], [, b]) => b - a) }];
  });
}

/** What a chunk's `everlong` says of the memory; null without a session. */
export function readMemoryNote(everlong: unknown): MemoryNote | null {
  const memory = object(object(everlong).memory);
  if (text(memory.session) === "") return null;
  return { session: text(memory.session), recalled: readEpisodes(memory.recalled) };
}

const REASONS: Record<string, string> = {
  words: "its words",
  meaning: "its meaning",
  around: "what stands around it",
  session: "its conversation",
  speaker: "who said it",
};

/** Why a text was found, in words: "its words 0.62, its meaning 0.31". */
export const reasons = ({ why }: Found): string =>
  why.map(([reason, share]) => `${REASONS[reason] ?? reason} ${share.toFixed(2)}`).join(", ");

const SPEAKERS: Record<string, string> = { user: "You", assistant: "The model" };

/** Who said it, or where it stands. */
export function originOf({ source, speaker }: Episode): string {
  const who = SPEAKERS[speaker] ?? speaker;
  return source === "chat" || source === "" ? who : [who, source].filter(Boolean).join(", ");
}
