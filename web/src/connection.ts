/** Whether the server can be reached, which models it has, and the key it asks for. */
import { computed, signal } from "@preact/signals";
import { announce } from "./announcer";
import { ConnectionError, listModels, type Model, ServerError } from "./api";
import type { Failure } from "./conversation";
import { hasMemory } from "./memory-api";
import { loadKey, saveKey } from "./storage";

export type Connection =
  | { state: "connecting" }
  | { state: "ready" }
  /** The server wants a key, or another one than was given; `asking`: so do we, in a dialog. */
  | { state: "locked"; refused: boolean; asking: boolean }
  | { state: "away"; message: string };

export const connection = signal<Connection>({ state: "connecting" });
export const models = signal<Model[]>([]);
/** Whether the server has a memory. */
export const remembers = signal(false);
export const apiKey = signal(loadKey());
export const ready = computed(() => connection.value.state === "ready");

const FIRST_WAIT_MS = 1000;
const LONGEST_WAIT_MS = 15_000;
let wait = FIRST_WAIT_MS;
let timer = 0;

/** Lists the models and looks for a memory, and so finds out where we stand; keeps trying. */
export async function connect(): Promise<void> {
  clearTimeout(timer);
  try {
    const listed = await listModels(apiKey.value);
    remembers.value = await hasMemory(apiKey.value);
    // Who sees the models may send: whatever else is needed is known by now.
    models.value = listed;
    wait = FIRST_WAIT_MS;
    if (connection.value.state === "away") announce("The server is back.");
    connection.value = { state: "ready" };
  } catch (error) {
    if (error instanceof ServerError && error.status === 401) lock();
    else lose(error);
  }
}

/** The server refused us: asks for a key. */
export function lock(): void {
  connection.value = { state: "locked", refused: apiKey.value !== null, asking: true };
}

/** The reader does not want to give a key now. */
export function stayLocked(): void {
  connection.value = { state: "locked", refused: false, asking: false };
}

/** The server cannot be used now: shows why and tries again, later each time. */
function lose(error: unknown): void {
  const known = error instanceof ConnectionError || error instanceof ServerError;
  const message = known ? error.message : "The server did not answer as expected.";
  if (connection.value.state !== "away") announce(message);
  connection.value = { state: "away", message };
  clearTimeout(timer);
  timer = window.setTimeout(() => void connect(), wait);
  wait = Math.min(2 * wait, LONGEST_WAIT_MS);
}

/** What to show of an error; looks again at the server where that may help. */
export function failureOf(error: unknown): Failure {
  if (error instanceof ServerError) {
    if (error.status === 401) lock();
    // A server that fails, or ends a stream, may be on its way down.
    else if (error.status === null || error.status >= 500) void connect();
    return { status: error.status, message: error.message };
  }
  if (error instanceof ConnectionError) {
    void connect();
    return { status: null, message: error.message };
  }
  console.error(error);
  return { status: null, message: `The page itself failed: ${String(error)}` };
}

export async function useKey(key: string | null): Promise<void> {
  apiKey.value = key;
  saveKey(key);
  await connect();
}

/** The network changed, or the reader came back: a good moment to look again. */
export function watchNetwork(): void {
  const look = (): void => {
    if (connection.value.state === "away") void connect();
  };
  addEventListener("online", look);
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "visible") look();
  });
}
