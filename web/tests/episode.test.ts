import { expect, it } from "vitest";
import { originOf, readFound, readMemoryNote, reasons } from "../src/episode";

const told = { id: "ab", session: "s", source: "chat", speaker: "user", time: 7, text: "a boat" };

it("reads the session and what was recalled", () => {
  expect(readMemoryNote({ memory: { session: "s", recalled: [{ ...told, score: 0.5 }] } })).toEqual({
    session: "s",
    recalled: [{ ...told, score: 0.5 }],
  });
});

it("takes what is missing for nothing recalled", () => {
  expect(readMemoryNote({ memory: { session: "s" } })).toEqual({ session: "s", recalled: [] });
  expect(readMemoryNote({ memory: { session: "s", recalled: [null, {}, 3] } })?.recalled).toEqual([]);
  for (const none of [undefined, null, {}, { memory: null }, { memory: { session: "" } }]) {
    expect(readMemoryNote(none)).toBeNull();
  }
});

it("says why a text was found, the main reason first", () => {
  const [found] = readFound([{ ...told, score: 0.9, why: { around: 0.1, words: 0.625, new: 0.02 } }]);
  expect(reasons(found!)).toBe("its words 0.63, what stands around it 0.10, new 0.02");
});

it("names who said it, and the document", () => {
  expect(originOf(told)).toBe("You");
  expect(originOf({ ...told, speaker: "assistant" })).toBe("The model");
  expect(originOf({ ...told, speaker: "Ada", source: "notes.md" })).toBe("Ada, notes.md");
  expect(originOf({ ...told, speaker: "", source: "notes.md" })).toBe("notes.md");
});
