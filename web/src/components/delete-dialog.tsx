import { stop } from "../answering";
import { conversationOf, removeConversation } from "../chats";
import { remembers } from "../connection";
import { closeDialog } from "../dialogs";
import { Modal } from "./modal";

export function DeleteDialog({ id }: { id: string }) {
  return (
    <Modal title="Delete this conversation?" place="middle" onClose={closeDialog}>
      <p dir="auto">{conversationOf(id)?.title}</p>
      <p class="hint">
        {remembers.value
          ? "It goes from this browser. What the server remembers of it stays until it is forgotten, under Memory."
          : "It is kept in this browser only and cannot be brought back."}
      </p>
      <div class="buttons">
        <button type="button" autofocus onClick={closeDialog}>
          Keep
        </button>
        <button
          type="button"
          class="danger"
          onClick={() => {
            stop(id);
            removeConversation(id);
            closeDialog();
          }}
        >
          Delete
        </button>
      </div>
    </Modal>
  );
}
