/** What is kept in the browser. Every access can fail: storage may be full or forbidden. */
import { type Conversation, DEFAULT_SETTINGS, parseConversation, type Settings } from "./conversation";

const CONVERSATION = "everlong.conversation.";
const SETTINGS = "everlong.settings";
const THEME = "everlong.theme";
const KEY = "everlong.api-key";

export type Theme = "system" | "light" | "dark";

// Functions, because with storage forbidden even naming it throws.
type Place = () => Storage;
const local: Place = () => localStorage;
const tab: Place = () => sessionStorage;

function read(place: Place, name: string): string | null {
  try {
    return place().getItem(name);
  } catch {
    return null;
  }
}

/** Returns whether it worked. */
function write(place: Place, name: string, value: string | null): boolean {
  try {
    if (value === null) place().removeItem(name);
    else place().setItem(name, value);
    return true;
  } catch {
    return false;
  }
}

function names(place: Place): string[] {
  try {
    return Object.keys(place());
  } catch {
    return [];
  }
}

export function loadConversations(): Conversation[] {
  return names(local)
    .filter((name) => name.startsWith(CONVERSATION))
    .map((name) => parseConversation(read(local, name) ?? ""))
    .filter((conversation) => conversation !== null);
}

export const saveConversation = (conversation: Conversation): boolean =>
  write(local, CONVERSATION + conversation.id, JSON.stringify(conversation));

export const deleteConversation = (id: string): boolean =>
  write(local, CONVERSATION + id, null);

/** Calls `changed` when another tab writes or deletes (null) a conversation. */
export function watchOtherTabs(changed: (id: string, now: Conversation | null) => void): void {
  addEventListener("storage", ({ key, newValue }) => {
    if (!key?.startsWith(CONVERSATION)) return;
    changed(key.slice(CONVERSATION.length), newValue === null ? null : parseConversation(newValue));
  });
}

/** The settings of the next new conversation: those last used. */
export function loadSettings(): Settings {
  try {
    return { ...DEFAULT_SETTINGS, ...JSON.parse(read(local, SETTINGS) ?? "{}") };
  } catch {
    return DEFAULT_SETTINGS;
  }
}

export const saveSettings = (settings: Settings): boolean =>
  write(local, SETTINGS, JSON.stringify(settings));

export function loadTheme(): Theme {
  const stored = read(local, THEME);
  return stored === "light" || stored === "dark" ? stored : "system";
}

export const saveTheme = (theme: Theme): boolean =>
  write(local, THEME, theme === "system" ? null : theme);

// The key lives as long as the tab: it is a secret, the conversations are not the server's.
export const loadKey = (): string | null => read(tab, KEY);
export const saveKey = (key: string | null): boolean => write(tab, KEY, key);
