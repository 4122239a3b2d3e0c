/** Numbers as the page shows them. */
import type { Answer } from "./conversation";

const COUNT = new Intl.NumberFormat("en");

export function count(value: number): string {
  return COUNT.format(value);
}

export function duration(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const seconds = ms / 1000;
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 2 : 1)} s`;
  const whole = Math.round(seconds);
  return `${Math.floor(whole / 60)} min ${whole % 60} s`;
}

const WHEN = new Intl.DateTimeFormat("en", { dateStyle: "medium", timeStyle: "short" });

/** A time in seconds since 1970. */
export const when = (seconds: number): string => WHEN.format(new Date(1000 * seconds));

/** "1 text", "2 texts". */
export const counted = (value: number, one: string, many = `${one}s`): string =>
  `${count(value)} ${value === 1 ? one : many}`;

export interface Figure {
  text: string;
  /** What the figure means, for a tooltip. */
  meaning: string;
}

/** Fewer tokens come in one or two pieces, whose distance says nothing about speed. */
const FEWEST_FOR_RATE = 10;

/** The figures under an answer, those that are known. */
export function figures({ cost, timing }: Answer): Figure[] {
  const found: Figure[] = [];
  // The first token's time is the prompt's; the rest came during decodeMs.
  if (cost && timing && cost.completionTokens >= FEWEST_FOR_RATE && timing.decodeMs > 0) {
    const rate = (cost.completionTokens - 1) / (timing.decodeMs / 1000);
    found.push({
      text: `${rate.toFixed(rate < 100 ? 1 : 0)} tok/s`,
      meaning: "Tokens per second after the first, as received here",
    });
  }
  if (timing) {
    found.push({
      text: `first token ${duration(timing.firstTextMs)}`,
      meaning: "Time from sending to the first text",
    });
  }
  if (cost) {
    found.push({
      text: `${count(cost.completionTokens)} ${cost.completionTokens === 1 ? "token" : "tokens"}`,
      meaning: "Tokens of the answer",
    });
    const share = cost.promptTokens > 0 ? cost.cachedTokens / cost.promptTokens : 0;
    found.push({
      text: `prompt ${count(cost.promptTokens)} (${Math.floor(share * 100)} % cached)`,
      meaning: `${count(cost.cachedTokens)} of ${count(cost.promptTokens)} prompt tokens were found instead of computed`,
    });
  }
  return found;
}
