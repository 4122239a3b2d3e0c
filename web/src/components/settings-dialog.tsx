import { changeSettings, settings } from "../chats";
import { apiKey, useKey } from "../connection";
import type { Settings } from "../conversation";
import { closeDialog } from "../dialogs";
import { Modal } from "./modal";

interface NumberSetting {
  name: "temperature" | "topP" | "maxTokens" | "seed";
  label: string;
  hint: string;
  min: number;
  max?: number;
  step: number | "any";
}

const NUMBERS: NumberSetting[] = [
  {
    name: "temperature",
    label: "Temperature",
    hint: "0 always takes the likeliest token",
    min: 0,
    max: 2,
    step: 0.1,
  },
  {
    name: "topP",
    label: "Top-p",
    hint: "Keep the likeliest tokens up to this probability",
    min: 0.01,
    max: 1,
    step: 0.01,
  },
  {
    name: "maxTokens",
    label: "Max tokens",
    hint: "Longest answer; empty: as long as the window allows",
    min: 1,
    step: 1,
  },
  { name: "seed", label: "Seed", hint: "Same seed, same answer", min: 0, step: 1 },
];

export function SettingsDialog() {
  return (
    <Modal title="Settings" place="end" onClose={closeDialog}>
      <form method="dialog">
        <p class="hint">
          For this conversation, and for new ones. What is empty is left to the server.
        </p>
        <label>
          System prompt
          <textarea
            rows={5}
            dir="auto"
            placeholder="How the model should behave"
            value={settings.value.system}
            onInput={(event) => changeSettings({ system: event.currentTarget.value })}
          />
        </label>
        <div class="number-settings">
          {NUMBERS.map((setting) => (
            <NumberField key={setting.name} {...setting} />
          ))}
        </div>
        {apiKey.value !== null && (
          <p class="key-in-use">
            An API key is in use.
            <button type="button" onClick={() => void useKey(null)}>
              Forget it
            </button>
          </p>
        )}
        <div class="buttons">
          <button type="submit" class="primary">
            Done
          </button>
        </div>
      </form>
    </Modal>
  );
}

function NumberField({ name, label, hint, min, max, step }: NumberSetting) {
  return (
    <label>
      {label}
      <input
        type="number"
        inputMode="decimal"
        placeholder="default"
        min={min}
        max={max}
        step={step}
        aria-describedby={`${name}-hint`}
        value={settings.value[name] ?? ""}
        onChange={(event) => {
          const { value, valueAsNumber, validity } = event.currentTarget;
          // Out of range: the browser says why when the form is sent; nothing is changed.
          if (!validity.valid) return void event.currentTarget.reportValidity();
          const change: Partial<Settings> = { [name]: value === "" ? null : valueAsNumber };
          changeSettings(change);
        }}
      />
      <span id={`${name}-hint`} class="hint">
        {hint}
      </span>
    </label>
  );
}
