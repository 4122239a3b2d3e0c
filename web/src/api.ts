/** The server's endpoints that the page uses. Knows the protocol, and nothing of the page. */
import type { ChatMessage, Cost, Settings } from "./conversation";
import { type MemoryNote, readMemoryNote } from "./episode";
import { readEvents } from "./events";

export interface Model {
  id: string;
  /** Tokens that prompt and answer may have together, if the server says so. */
  window: number | null;
}

/** The server answered with an error, in the response or within the stream. */
export class ServerError extends Error {
  constructor(
    message: string,
    readonly status: number | null,
    /** Seconds to wait before another try, from Retry-After. */
    readonly retryAfter: number | null = null,
  ) {
    super(message);
  }
}

/** No answer came, or it broke off. */
export class ConnectionError extends Error {}

/** One step of an answer. */
export interface Delta {
  text: string;
  ending: "stop" | "length" | null;
  cost: Cost | null;
  /** In the first step, if the server has a memory. */
  memory: MemoryNote | null;
}

// Relative, so that the page also works behind a proxy that puts it under a path.
const endpoint = (path: string): URL => new URL(path, document.baseURI);

const MODELS_TIMEOUT_MS = 10_000;
const LONGEST_RAW_MESSAGE = 300;

/** A response that is no error; else throws ServerError or ConnectionError. */
export async function request(
  path: string,
  key: string | null,
  init: RequestInit,
): Promise<Response> {
  const headers = new Headers(init.headers);
  if (key !== null) headers.set("Authorization", `Bearer ${key}`);
  let response: Response;
  try {
    response = await fetch(endpoint(path), { ...init, headers });
  } catch (error) {
    if (init.signal?.aborted && init.signal.reason?.name !== "TimeoutError") throw error;
    throw new ConnectionError(`The server at ${location.host} cannot be reached.`);
  }
  if (!response.ok) throw await errorOf(response);
  return response;
}

export async function listModels(key: string | null): Promise<Model[]> {
  const response = await request("v1/models", key, {
    signal: AbortSignal.timeout(MODELS_TIMEOUT_MS),
  });
  const { data } = (await response.json()) as { data: { id: string; max_model_len?: number }[] };
  return data.map(({ id, max_model_len }) => ({ id, window: max_model_len ?? null }));
}

/** Asks for an answer and yields it as it comes; throws ServerError or ConnectionError. */
export async function* streamAnswer(
  model: string,
  messages: ChatMessage[],
  settings: Settings,
  /** Name of the session; null where the server has no memory. */
  session: string | null,
  key: string | null,
  signal: AbortSignal,
): AsyncGenerator<Delta> {
  const response = await request("v1/chat/completions", key, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({
      model,
      messages,
      stream: true,
      ...(session !== null && { session }),
      stream_options: { include_usage: true },
      ...(settings.temperature !== null && { temperature: settings.temperature }),
      ...(settings.topP !== null && { top_p: settings.topP }),
      ...(settings.maxTokens !== null && { max_tokens: settings.maxTokens }),
      ...(settings.seed !== null && { seed: settings.seed }),
    }),
    signal,
  });
  if (response.body === null) throw new ConnectionError("The server sent an empty response.");
  try {
    for await (const data of readEvents(response.body)) {
      if (data === "[DONE]") return;
      yield readDelta(data);
    }
  } catch (error) {
    if (signal.aborted || error instanceof ServerError) throw error;
    throw brokenOff();
  }
  throw brokenOff();
}

function brokenOff(): ConnectionError {
  return new ConnectionError("The connection ended before the answer was complete.");
}

/** A chunk as OpenAI defines it; only what the page reads. */
interface ChatChunk {
  error?: unknown;
  everlong?: unknown;
  choices?: { delta?: { content?: string | null }; finish_reason?: string | null }[];
  usage?: {
    prompt_tokens: number;
    completion_tokens: number;
    prompt_tokens_details?: { cached_tokens?: number } | null;
  } | null;
}

function readDelta(data: string): Delta {
  const chunk = JSON.parse(data) as ChatChunk;
  if (chunk.error !== undefined) throw new ServerError(messageOf(chunk, data), null);
  const choice = chunk.choices?.[0];
  const reason = choice?.finish_reason ?? null;
  return {
    text: choice?.delta?.content ?? "",
    ending: reason === null ? null : reason === "length" ? "length" : "stop",
    cost: chunk.usage
      ? {
          promptTokens: chunk.usage.prompt_tokens,
          cachedTokens: chunk.usage.prompt_tokens_details?.cached_tokens ?? 0,
          completionTokens: chunk.usage.completion_tokens,
        }
      : null,
    memory: readMemoryNote(chunk.everlong),
  };
}

async function errorOf(response: Response): Promise<ServerError> {
  const text = await response.text().catch(() => "");
  let body: unknown = null;
  try {
    body = JSON.parse(text);
  } catch {
    // Not JSON: a proxy's page, or nothing. The raw text stands in for the message.
  }
  const message = messageOf(body, text) || `${response.status} ${response.statusText}`.trim();
  const header = response.headers.get("Retry-After");
  return new ServerError(message, response.status, header === null ? null : seconds(header));
}

/** The text of an OpenAI error object, or what comes closest to it. */
function messageOf(body: unknown, raw: string): string {
  const { error } = (body ?? {}) as { error?: { message?: unknown } | string };
  if (typeof error === "string") return error;
  if (typeof error?.message === "string") return error.message;
  return raw.length > LONGEST_RAW_MESSAGE ? `${raw.slice(0, LONGEST_RAW_MESSAGE)}…` : raw;
}

/** Retry-After is a number of seconds or a date. */
function seconds(header: string): number | null {
  const number = Number(header);
  if (Number.isFinite(number)) return Math.max(0, number);
  const date = Date.parse(header);
  return Number.isNaN(date) ? null : Math.max(0, (date - Date.now()) / 1000);
}
