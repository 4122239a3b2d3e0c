import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { live, send, stop } from "../answering";
import { shown } from "../chats";
import { ready } from "../connection";
import { edit, editable } from "../editing";
import { sends } from "../keys";
import { GrowingTextarea } from "./growing-textarea";
import { Icon } from "./icons";

export function Composer() {
  const text = useSignal("");
  const answering = live.value !== undefined;

  // A new chat is for typing: the box is ready for it.
  useEffect(() => {
    if (shown.value === null) document.getElementById("message")?.focus();
  }, [shown.value === null]);

  const submit = (): void => {
    if (!ready.value || answering || text.value.trim() === "") return;
    send(text.value.trim());
    text.value = "";
  };
  const onKeyDown = (event: KeyboardEvent): void => {
    if (sends(event)) {
      event.preventDefault();
      submit();
    } else if (event.key === "ArrowUp" && text.value === "" && editable.value) {
      event.preventDefault();
      edit(editable.value);
    }
  };

  return (
    <form
      class="composer"
      aria-label="New message"
      onSubmit={(event) => {
        event.preventDefault();
        submit();
      }}
    >
      <div class="composer-box">
        <GrowingTextarea
          id="message"
          aria-label="Message"
          placeholder="Write a message"
          value={text.value}
          onInput={(event) => (text.value = event.currentTarget.value)}
          onKeyDown={onKeyDown}
        />
        {answering ? (
          <button
            type="button"
            class="send stop"
            aria-label="Stop the answer"
            title="Stop (Escape)"
            onClick={() => stop(shown.value!.id)}
          >
            <Icon name="stop" />
          </button>
        ) : (
          <button
            type="submit"
            class="send"
            aria-label="Send"
            title="Send (Enter)"
            disabled={!ready.value || text.value.trim() === ""}
          >
            <Icon name="send" />
          </button>
        )}
      </div>
    </form>
  );
}
