import { describe, expect, it } from "vitest";
import {
  type Answer,
  chatMessages,
  type Conversation,
  DEFAULT_SETTINGS,
  parseConversation,
  sessionOf,
  titleOf,
  upToLastUserMessage,
  withSaid,
} from "../src/conversation";

const answer: Answer = {
  id: "b",
  role: "assistant",
  text: "four",
  model: "m",
  ending: "stop",
};
const conversation: Conversation = {
  id: "1",
  title: "2 + 2",
  updated: 5,
  settings: { ...DEFAULT_SETTINGS, system: "Be brief." },
  messages: [
    { id: "a", role: "user", text: "2 + 2?" },
    answer,
    { id: "c", role: "user", text: "3 + 3?" },
    { ...answer, id: "d", text: "", ending: "failed" },
  ],
};

describe("titleOf", () => {
  it("takes the first line, cut at a word", () => {
    expect(titleOf("  short  line \nnext")).toBe("short line");
    expect(titleOf(`${"word ".repeat(30)}`)).toMatch(/^(word )+word…$/);
    expect(titleOf("x".repeat(100))).toBe(`${"x".repeat(60)}…`);
    expect(titleOf("  ")).toBe("New chat");
  });
});

describe("chatMessages", () => {
  it("puts the system prompt first and leaves out answers that have no text", () => {
    expect(chatMessages(conversation)).toEqual([
      { role: "system", content: "Be brief." },
      { role: "user", content: "2 + 2?" },
      { role: "assistant", content: "four" },
      { role: "user", content: "3 + 3?" },
    ]);
  });

  it("sends no empty system prompt", () => {
    const plain = { ...conversation, settings: { ...DEFAULT_SETTINGS, system: " \n" } };
    expect(chatMessages(plain)[0]!.role).toBe("user");
  });
});

describe("upToLastUserMessage", () => {
  it("drops the answer, and may replace the question", () => {
    expect(upToLastUserMessage(conversation)).toEqual(conversation.messages.slice(0, 3));
    expect(upToLastUserMessage(conversation, "4 + 4?").at(-1)).toEqual({
      id: "c",
      role: "user",
      text: "4 + 4?",
    });
  });
});

describe("parseConversation", () => {
  it("returns what was stored", () => {
    expect(parseConversation(JSON.stringify(conversation))).toEqual(conversation);
  });

  it("ends an answer that was cut off by closing the page", () => {
    const cut = { ...conversation, messages: [{ ...answer, ending: "streaming" }] };
    expect(parseConversation(JSON.stringify(cut))!.messages).toMatchObject([
      { ending: "cancelled" },
    ]);
  });

  it.each(["", "null", "[]", '{"id":1}', JSON.stringify({ ...conversation, messages: [{}] })])(
    "refuses %s",
    (json) => {
      expect(parseConversation(json)).toBeNull();
    },
  );
});

describe("a conversation in the server's memory", () => {
  it("has a session named after its id, until the server names another", () => {
    expect(sessionOf(conversation)).toBe("page-1");
    expect(sessionOf({ ...conversation, session: "fork" })).toBe("fork");
  });

  it("is kept with its session and what was recalled", () => {
    const recalled = [
      { id: "e", session: "s", source: "chat", speaker: "user", time: 1, text: "t", score: 0.5 },
    ];
    const kept = { ...conversation, session: "s", messages: [{ ...answer, recalled }] };
    expect(parseConversation(JSON.stringify(kept))).toEqual(kept);
    const broken = { ...kept, messages: [{ ...answer, recalled: "x" }] };
    expect(parseConversation(JSON.stringify(broken))?.messages).toEqual([{ ...answer, recalled: [] }]);
    expect(parseConversation(JSON.stringify({ ...kept, session: 3 }))).toBeNull();
  });

  it("takes what the session has and keeps what the browser knows of it", () => {
    const said = [
      { role: "system", content: "Be kind." },
      { role: "user", content: "2 + 2?" },
      { role: "assistant", content: "four\n" },
      { role: "tool", content: "x" },
      { role: "user", content: "" },
      { role: "assistant", content: "new" },
    ];
    expect(withSaid(conversation, said, () => "made")).toEqual({
      system: "Be kind.",
      messages: [
        conversation.messages[0],
        answer,
        { id: "made", role: "user", text: "" },
        { id: "made", role: "assistant", text: "new", model: "", ending: "stop" },
      ],
    });
  });
});
