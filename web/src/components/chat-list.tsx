import { liveOf } from "../answering";
import { addressOf, conversations, show, shown } from "../chats";
import { remembers } from "../connection";
import { closeDialog, dialog } from "../dialogs";
import { Icon } from "./icons";
import { IconButton } from "./icon-button";

/** The conversations; beside the chat where there is room, else in a dialog. */
export function ChatList() {
  return (
    <nav class="chats" aria-label="Conversations">
      <div class="brand">
        <Icon name="mark" />
        <span>Everlong</span>
      </div>
      <button
        type="button"
        class="new-chat"
        onClick={() => {
          closeDialog();
          show(null);
          document.getElementById("message")?.focus();
        }}
      >
        <Icon name="plus" />
        New chat
      </button>
      <ul>
        {conversations.value.map(({ id, title }) => (
          <li key={id} class={id === shown.value?.id ? "current" : ""}>
            <a
              href={addressOf(id)}
              dir="auto"
              aria-current={id === shown.value?.id ? "page" : undefined}
              onClick={closeDialog}
            >
              {title}
            </a>
            {liveOf(id) && (
              <span class="working" role="img" aria-label="is being answered" />
            )}
            <IconButton
              icon="trash"
              label={`Delete: ${title}`}
              onClick={() => (dialog.value = { kind: "delete", id })}
            />
          </li>
        ))}
      </ul>
      <p class="kept">
        {remembers.value
          ? "Conversations are kept in this browser and in the server's memory."
          : "Conversations are kept in this browser."}
      </p>
    </nav>
  );
}
