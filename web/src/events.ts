/** Server-sent events, read from a fetch response (EventSource cannot send a POST). */

/** Splits decoded text into events; keeps what is incomplete until more arrives. */
export class EventParser {
  #rest = "";
  #data: string[] = [];

  /** The data of every event that `text` completes, in order. */
  push(text: string): string[] {
    const events: string[] = [];
    let rest = this.#rest + text;
    for (;;) {
      const end = rest.search(/[\r\n]/);
      // A carriage return at the very end may be the first half of a line break.
      if (end < 0 || (rest[end] === "\r" && end === rest.length - 1)) break;
      const line = rest.slice(0, end);
      rest = rest.slice(rest.startsWith("\r\n", end) ? end + 2 : end + 1);
      if (line === "") {
        if (this.#data.length > 0) events.push(this.#data.join("\n"));
        this.#data = [];
      } else if (line.startsWith("data:")) {
        this.#data.push(line.slice(line[5] === " " ? 6 : 5));
      }
    }
    this.#rest = rest;
    return events;
  }
}

/** The data of each event in a response body. */
export async function* readEvents(body: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const parser = new EventParser();
  const decoder = new TextDecoder();
  const reader = body.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield* parser.push(decoder.decode(value, { stream: true }));
    }
  } finally {
    // Leaving early closes the connection, by which the server learns to stop.
    await reader.cancel().catch(() => undefined);
  }
}
