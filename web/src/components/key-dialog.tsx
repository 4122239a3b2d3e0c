import { useSignal } from "@preact/signals";
import { answerAgain } from "../answering";
import { shown } from "../chats";
import { ready, stayLocked, useKey } from "../connection";
import { Modal } from "./modal";

/** Asks for the API key; what failed for want of it is tried again. */
export function KeyDialog({ refused }: { refused: boolean }) {
  const key = useSignal("");
  const checking = useSignal(false);

  const submit = async (event: Event): Promise<void> => {
    event.preventDefault();
    checking.value = true;
    await useKey(key.value.trim());
    checking.value = false;
    const last = shown.value?.messages.at(-1);
    if (ready.value && last?.role === "assistant" && last.failure?.status === 401) {
      answerAgain(shown.value!.id);
    }
  };

  return (
    <Modal title="API key" place="middle" onClose={stayLocked}>
      <form onSubmit={(event) => void submit(event)}>
        <p>This server asks for a key: the one that was given to it as --api-key.</p>
        <label>
          Key
          <input
            type="password"
            autocomplete="off"
            autofocus
            required
            aria-invalid={refused}
            aria-describedby="key-hint"
            value={key.value}
            onInput={(event) => (key.value = event.currentTarget.value)}
          />
        </label>
        <p id="key-hint" class={refused ? "problem" : "hint"} role={refused ? "alert" : undefined}>
          {refused
            ? "The server did not accept this key."
            : "It is kept until this tab is closed, and sent to this server only."}
        </p>
        <div class="buttons">
          <button type="submit" class="primary" disabled={checking.value}>
            Use this key
          </button>
        </div>
      </form>
    </Modal>
  );
}
