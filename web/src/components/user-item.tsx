import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { answerAgain } from "../answering";
import { shown } from "../chats";
import { ready } from "../connection";
import type { UserMessage } from "../conversation";
import { edit, editable, editing } from "../editing";
import { sends } from "../keys";
import { CopyButton } from "./copy-button";
import { GrowingTextarea } from "./growing-textarea";
import { IconButton } from "./icon-button";

export function UserItem({ message }: { message: UserMessage }) {
  if (editing.value === message.id) return <Editor message={message} />;
  return (
    <article class="user" aria-label="You">
      <h2 class="visually-hidden">You</h2>
      {/* Shown as it was typed: what a user writes is not markdown unless they say so. */}
      <div class="bubble" dir="auto">
        {message.text}
      </div>
      <div class="actions">
        <CopyButton text={message.text} label="Copy message" />
        {editable.value === message.id && (
          <IconButton icon="edit" label="Edit message" onClick={() => edit(message.id)} />
        )}
      </div>
    </article>
  );
}

function Editor({ message }: { message: UserMessage }) {
  const text = useSignal(message.text);
  const form = useRef<HTMLFormElement>(null);
  useEffect(() => {
    const area = form.current!.querySelector("textarea")!;
    area.focus();
    area.setSelectionRange(area.value.length, area.value.length);
    return () => document.getElementById("message")?.focus();
  }, []);

  const submit = (): void => {
    if (!ready.value || text.value.trim() === "") return;
    edit(null);
    answerAgain(shown.value!.id, text.value.trim());
  };
  const onKeyDown = (event: KeyboardEvent): void => {
    if (event.key === "Escape") edit(null);
    else if (sends(event)) submit();
    else return;
    event.preventDefault();
  };

  return (
    <form
      ref={form}
      class="user editor"
      onSubmit={(event) => {
        event.preventDefault();
        submit();
      }}
    >
      <GrowingTextarea
        aria-label="Edit message"
        value={text.value}
        onInput={(event) => (text.value = event.currentTarget.value)}
        onKeyDown={onKeyDown}
      />
      <div class="buttons">
        <button type="button" onClick={() => edit(null)}>
          Cancel
        </button>
        <button type="submit" class="primary" disabled={!ready.value || text.value.trim() === ""}>
          Send
        </button>
      </div>
    </form>
  );
}
