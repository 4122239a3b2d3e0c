import { signal } from "@preact/signals";
import { loadTheme, saveTheme, type Theme } from "./storage";

export const theme = signal<Theme>(loadTheme());

const NEXT: Record<Theme, Theme> = { system: "light", light: "dark", dark: "system" };

/** The style sheet's light-dark() colours follow the attribute, or without it the system. */
export function applyTheme(): void {
  if (theme.value === "system") document.documentElement.removeAttribute("data-theme");
  else document.documentElement.setAttribute("data-theme", theme.value);
}

export function nextTheme(): void {
  theme.value = NEXT[theme.value];
  saveTheme(theme.value);
  applyTheme();
}
