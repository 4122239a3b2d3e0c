import { describe, expect, it } from "vitest";
import { EventParser, readEvents } from "../src/events";

const STREAM = 'data: {"a":1}\r\n\r\n: ping\r\n\r\nevent: x\ndata: two\ndata:lines\n\nid: 7\r\rdata:\r\rdata: [DONE]\n\n';
const EVENTS = ['{"a":1}', "two\nlines", "", "[DONE]"];

function body(...chunks: Uint8Array[]): ReadableStream<Uint8Array> {
  return new ReadableStream({
    start(controller) {
      for (const chunk of chunks) controller.enqueue(chunk);
      controller.close();
    },
  });
}

describe("EventParser", () => {
  it("reads every kind of line break, comments and several data lines", () => {
    expect(new EventParser().push(STREAM)).toEqual(EVENTS);
  });

  it("gives the same events wherever the text is cut", () => {
    for (let first = 0; first <= STREAM.length; first++) {
      for (let second = first; second <= STREAM.length; second += 3) {
        const parser = new EventParser();
        const parts = [STREAM.slice(0, first), STREAM.slice(first, second), STREAM.slice(second)];
        expect(parts.flatMap((part) => parser.push(part))).toEqual(EVENTS);
      }
    }
  });

  it("keeps an event that is not complete", () => {
    const parser = new EventParser();
    expect(parser.push("data: half")).toEqual([]);
    expect(parser.push(" and half\n")).toEqual([]);
    expect(parser.push("\n")).toEqual(["half and half"]);
  });
});

describe("readEvents", () => {
  it("joins characters whose bytes arrive apart", async () => {
    const bytes = [...new TextEncoder().encode("data: né 🌿\n\n")];
    const events: string[] = [];
    for await (const event of readEvents(body(...bytes.map((byte) => Uint8Array.of(byte))))) {
      events.push(event);
    }
    expect(events).toEqual(["né 🌿"]);
  });

  it("cancels the body when the reader leaves", async () => {
    let cancelled = false;
    const endless = new ReadableStream<Uint8Array>({
      pull: (controller) => controller.enqueue(new TextEncoder().encode("data: x\n\n")),
      cancel: () => void (cancelled = true),
    });
    for await (const event of readEvents(endless)) {
      expect(event).toBe("x");
      break;
    }
    expect(cancelled).toBe(true);
  });
});
