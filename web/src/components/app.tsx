import { useEffect } from "preact/hooks";
import { live, stop } from "../answering";
import { announcement } from "../announcer";
import { shown } from "../chats";
import { connection } from "../connection";
import { closeDialog, dialog } from "../dialogs";
import { ChatList } from "./chat-list";
import { Composer } from "./composer";
import { DeleteDialog } from "./delete-dialog";
import { Header } from "./header";
import { KeyDialog } from "./key-dialog";
import { MemoryPanel } from "./memory-panel";
import { Messages } from "./messages";
import { Modal } from "./modal";
import { Notices } from "./notices";
import { SettingsDialog } from "./settings-dialog";

export function App() {
  useEffect(() => {
    addEventListener("keydown", stopOnEscape);
    return () => removeEventListener("keydown", stopOnEscape);
  }, []);
  useEffect(() => {
    document.title = shown.value ? `${shown.value.title} · Everlong` : "Everlong";
  });
  return (
    <>
      <a class="skip" href="#message" onClick={focusComposer}>
        Skip to the message box
      </a>
      <aside class="sidebar">
        <ChatList />
      </aside>
      <div class="main">
        <Header />
        <Notices />
        <Messages key={shown.value?.id ?? "new"} />
        <Composer />
      </div>
      <OpenDialog />
      <div class="visually-hidden" role="status" aria-live="polite">
        {announcement.value}
      </div>
    </>
  );
}

function OpenDialog() {
  const state = connection.value;
  if (state.state === "locked" && state.asking) return <KeyDialog refused={state.refused} />;
  const open = dialog.value;
  switch (open?.kind) {
    case "chats":
      return (
        <Modal title="Conversations" place="start" onClose={closeDialog}>
          <ChatList />
        </Modal>
      );
    case "settings":
      return <SettingsDialog />;
    case "memory":
      return <MemoryPanel />;
    case "delete":
      return <DeleteDialog id={open.id} />;
    default:
      return null;
  }
}

/** Escape stops the answer, unless it closes a dialog or ends the edit of a message. */
function stopOnEscape(event: KeyboardEvent): void {
  if (event.key !== "Escape" || event.defaultPrevented || event.isComposing) return;
  if (document.querySelector("dialog[open]") || !shown.value || !live.value) return;
  event.preventDefault();
  stop(shown.value.id);
}

// The fragment of the address names the conversation, so the link must not change it.
function focusComposer(event: Event): void {
  event.preventDefault();
  document.getElementById("message")?.focus();
}
