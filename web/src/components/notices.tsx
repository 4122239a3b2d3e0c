import { connect, connection, lock } from "../connection";
import { storageFull } from "../chats";

/** What is wrong with the surroundings, above the conversation. */
export function Notices() {
  const state = connection.value;
  return (
    <div class="notices" aria-live="polite">
      {state.state === "away" && (
        <div class="notice">
          <p>{state.message} The page keeps trying.</p>
          <button type="button" onClick={() => void connect()}>
            Try now
          </button>
        </div>
      )}
      {state.state === "locked" && !state.asking && (
        <div class="notice">
          <p>The server asks for an API key.</p>
          <button type="button" onClick={lock}>
            Enter the key
          </button>
        </div>
      )}
      {storageFull.value && (
        <div class="notice">
          <p>
            The browser has no room left: this conversation is not kept. Delete some others to
            make room.
          </p>
        </div>
      )}
    </div>
  );
}
