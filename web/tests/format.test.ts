import { expect, it } from "vitest";
import type { Answer } from "../src/conversation";
import { duration, figures } from "../src/format";
import { splitThoughts } from "../src/thinking";

const answer: Answer = { id: "a", role: "assistant", text: "x", model: "m", ending: "stop" };
const cost = { promptTokens: 812, cachedTokens: 768, completionTokens: 101 };
const timing = { firstTextMs: 250, decodeMs: 2000 };
const texts = (change: Partial<Answer>): string[] =>
  figures({ ...answer, ...change }).map(({ text }) => text);

it("shows speed, first token, tokens and the cached share", () => {
  expect(texts({ cost, timing })).toEqual([
    "50.0 tok/s",
    "first token 250 ms",
    "101 tokens",
    "prompt 812 (94 % cached)",
  ]);
});

it("shows only what is known", () => {
  expect(texts({})).toEqual([]);
  expect(texts({ timing })).toEqual(["first token 250 ms"]);
  expect(texts({ cost: { ...cost, completionTokens: 9 }, timing })[0]).toBe("first token 250 ms");
  const one = { promptTokens: 0, cachedTokens: 0, completionTokens: 1 };
  expect(texts({ cost: one, timing })).toEqual([
    "first token 250 ms",
    "1 token",
    "prompt 0 (0 % cached)",
  ]);
});

it("writes durations in a fitting unit", () => {
  expect([12.4, 1234, 12_340, 125_000, 119_900].map(duration)).toEqual([
    "12 ms",
    "1.23 s",
    "12.3 s",
    "2 min 5 s",
    "2 min 0 s",
  ]);
});

it("splits thoughts off the answer", () => {
  expect(splitThoughts("plain")).toEqual({ thoughts: "", answer: "plain", thinking: false });
  expect(splitThoughts("<think>\nhm")).toEqual({ thoughts: "hm", answer: "", thinking: true });
  for (const text of ["about </think>", "about <think>\n</think>", "</think>"]) {
    expect(splitThoughts(text)).toEqual({ thoughts: "", answer: text, thinking: false });
  }
  for (const opening of ["<think>", "\n<think>\n", ""]) {
    expect(splitThoughts(`${opening}hm\n</think>\n\nyes`)).toEqual({
      thoughts: "hm",
      answer: "yes",
      thinking: false,
    });
  }
});
