/** The endpoints of the server's memory. */
import { request, ServerError } from "./api";
import { type Episode, type Found, readEpisode, readEpisodes, readFound } from "./episode";

export interface SessionLine {
  name: string;
  title: string;
  messages: number;
  /** Seconds since 1970. */
  updated: number;
  paused: boolean;
}

export interface Session extends SessionLine {
  said: { role: string; content: string }[];
}

/** What is forgotten: some texts, or a session with all it has. */
export type Selection = { episodes: string[] } | { session: string };

export interface Receipt {
  time: number;
  episodes: number;
  messages: number;
  notes: number;
  sessions: number;
  blocks: number;
}

type Key = string | null;

async function get<T>(path: string, key: Key): Promise<T> {
  return (await request(`v1/memory/${path}`, key, {})).json() as Promise<T>;
}

async function post<T>(path: string, key: Key, body: object): Promise<T> {
  const init = {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  };
  return (await request(`v1/memory/${path}`, key, init)).json() as Promise<T>;
}

const part = encodeURIComponent;

/** Whether the server has a memory; one without says that there is nothing (400, or 404). */
export async function hasMemory(key: Key): Promise<boolean> {
  try {
    await get("stats", key);
    return true;
  } catch (error) {
    if (error instanceof ServerError && (error.status === 400 || error.status === 404)) return false;
    throw error;
  }
}

/** Sessions, the one used last first; `next` is the `after` of the next page. */
export const listSessions = (
  key: Key,
  after: string | null,
): Promise<{ data: SessionLine[]; next: string | null }> =>
  get(`sessions${after === null ? "" : `?after=${part(after)}`}`, key);

/** A session with what was said in it; null where there is none of that name. */
export async function readSession(key: Key, name: string): Promise<Session | null> {
  type Told = Omit<Session, "said" | "messages"> & { messages: { role: string; content?: unknown }[] };
  try {
    const told = await get<Told>(`sessions/${part(name)}`, key);
    const said = told.messages.map(({ role, content }) => ({
      role,
      content: typeof content === "string" ? content : "",
    }));
    return { ...told, messages: said.length, said };
  } catch (error) {
    if (error instanceof ServerError && error.status === 400) return null;
    throw error;
  }
}

export const pauseSession = (key: Key, name: string, paused: boolean): Promise<SessionLine> =>
  post(`sessions/${part(name)}`, key, { paused });

export async function searchMemory(key: Key, query: string): Promise<Found[]> {
  return readFound((await post<{ data: unknown }>("search", key, { query })).data);
}

/** An episode among those told before and after it. */
export async function readInContext(
  key: Key,
  id: string,
  around: number,
): Promise<{ episode: Episode; context: Episode[] }> {
  const told = await get<{ context: unknown }>(`episodes/${part(id)}?around=${around}`, key);
  const episode = readEpisode(told);
  if (!episode) throw new ServerError("The server did not answer as expected.", null);
  return { episode, context: readEpisodes(told.context) };
}

/** How many texts would go, and some of them. */
export async function wouldForget(
  key: Key,
  what: Selection,
): Promise<{ count: number; examples: Episode[] }> {
  const body = { ...what, dry_run: true };
  const told = await post<{ episodes: number; data: unknown }>("forget", key, body);
  return { count: told.episodes, examples: readEpisodes(told.data) };
}

export const forget = (key: Key, what: Selection): Promise<Receipt> => post("forget", key, what);
