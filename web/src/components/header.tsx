import { modelFor } from "../answering";
import { changeSettings, settings, show, shown } from "../chats";
import { models, remembers } from "../connection";
import { dialog } from "../dialogs";
import { openMemory, paused } from "../memory";
import type { Theme } from "../storage";
import { nextTheme, theme } from "../theme";
import { IconButton } from "./icon-button";

const THEME_LABEL: Record<Theme, string> = {
  system: "Colours: as the system",
  light: "Colours: light",
  dark: "Colours: dark",
};

export function Header() {
  return (
    <header class="header">
      <IconButton
        icon="menu"
        label="Conversations"
        class="narrow-only"
        onClick={() => (dialog.value = { kind: "chats" })}
      />
      <h1 dir="auto">{shown.value?.title ?? "New chat"}</h1>
      <ModelPicker />
      <IconButton
        icon="plus"
        label="New chat"
        class="narrow-only"
        onClick={() => show(null)}
      />
      {remembers.value && (
        <IconButton
          icon="memory"
          class={paused.value ? "paused" : ""}
          label={paused.value ? "Memory (this conversation is not remembered)" : "Memory"}
          onClick={() => openMemory()}
        />
      )}
      <IconButton icon={theme.value} label={THEME_LABEL[theme.value]} onClick={nextTheme} />
      <IconButton
        icon="sliders"
        label="Settings"
        onClick={() => (dialog.value = { kind: "settings" })}
      />
    </header>
  );
}

function ModelPicker() {
  if (models.value.length === 0) return null;
  return (
    <select
      class="model"
      aria-label="Model"
      value={modelFor(settings.value)}
      onChange={(event) => changeSettings({ model: event.currentTarget.value })}
    >
      {models.value.map(({ id }) => (
        <option key={id} value={id}>
          {id}
        </option>
      ))}
    </select>
  );
}
