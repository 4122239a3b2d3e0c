import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { apiKey, failureOf } from "../connection";
import { closeDialog } from "../dialogs";
import { count, counted, when } from "../format";
import { useLoaded } from "../loading";
import * as memory from "../memory";
import {
  listSessions,
  readInContext,
  type Receipt,
  searchMemory,
  type Selection,
  type SessionLine,
  wouldForget,
} from "../memory-api";
import { Icon } from "./icons";
import { IconButton } from "./icon-button";
import { Modal } from "./modal";
import { Quote } from "./quote";

/** Texts read before and after one. */
const AROUND = 3;
const MOST_EXAMPLES = 3;

/** What the server remembers: its conversations, search, reading, forgetting. */
export function MemoryPanel() {
  const view = memory.trail.value.at(-1);
  return (
    <Modal title="Memory" place="end" onClose={closeDialog}>
      <IconButton icon="close" label="Close" class="close" onClick={closeDialog} />
      <div class="memory">
        {view?.at === "start" && <Start />}
        {view?.at === "episode" && <InContext key={view.id} id={view.id} />}
        {view?.at === "forget" && <Forget what={view.what} title={view.title} />}
      </div>
    </Modal>
  );
}

function Start() {
  const text = useSignal(memory.query.value);
  const search = (): void => void (memory.query.value = text.value.trim());
  return (
    <>
      <RememberSwitch />
      <form
        role="search"
        class="search"
        onSubmit={(event) => {
          event.preventDefault();
          search();
        }}
      >
        <input
          // Not of type "search", in which Escape empties the box instead of closing the panel.
          type="text"
          role="searchbox"
          enterkeyhint="search"
          aria-label="Search what is remembered"
          placeholder="Search what is remembered"
          value={text.value}
          onInput={(event) => {
            text.value = event.currentTarget.value;
            if (text.value === "") search();
          }}
        />
        <button type="submit">Search</button>
      </form>
      {memory.query.value === "" ? (
        <Sessions />
      ) : (
        <Results
          onLeave={() => {
            text.value = "";
            search();
          }}
        />
      )}
    </>
  );
}

function RememberSwitch() {
  const problem = useSignal("");
  const attempt = (work: Promise<void>): void => {
    problem.value = "";
    work.catch((error: unknown) => (problem.value = failureOf(error).message));
  };
  useEffect(() => attempt(memory.lookWhetherPaused()), []);
  return (
    <div class="remember">
      <label>
        <input
          type="checkbox"
          role="switch"
          checked={!memory.paused.value}
          onChange={(event) => {
            const wanted = event.currentTarget.checked;
            // It shows what the server says, not what was clicked.
            event.currentTarget.checked = !memory.paused.value;
            attempt(memory.setPaused(!wanted));
          }}
        />
        Remember this conversation
      </label>
      <p class="hint">
        {memory.paused.value
          ? "What is said from now on is not found again elsewhere."
          : "What is said here can be recalled in other conversations."}
      </p>
      <Problem text={problem.value} />
    </div>
  );
}

function Sessions() {
  const { value, problem } = useLoaded("", () => listSessions(apiKey.value, null));
  const more = useSignal<{ data: SessionLine[]; next: string | null } | null>(null);
  const failed = useSignal("");
  const page = more.value ?? value.value;
  const attempt = (work: Promise<void>): void => {
    failed.value = "";
    work.catch((error: unknown) => (failed.value = failureOf(error).message));
  };
  const addPage = async (): Promise<void> => {
    const { data, next } = await listSessions(apiKey.value, page!.next);
    more.value = { data: [...page!.data, ...data], next };
  };
  return (
    <section aria-labelledby="memory-sessions">
      <h3 id="memory-sessions">Conversations</h3>
      <Problem text={problem.value || failed.value} />
      {page?.data.length === 0 && <p class="hint">Nothing is remembered yet.</p>}
      <ul class="sessions">
        {page?.data.map(({ name, title, messages, updated, paused }) => (
          <li key={name}>
            <button type="button" class="session" onClick={() => attempt(memory.openSession(name))}>
              <span class="session-title" dir="auto">
                {title || "Nothing said yet"}
              </span>
              <span class="hint">
                {when(updated)}, {counted(messages, "message")}
                {paused && ", not remembered"}
              </span>
            </button>
            <IconButton
              icon="trash"
              label={`Forget: ${title || name}`}
              onClick={() =>
                memory.goTo({ at: "forget", what: { session: name }, title: title || name })
              }
            />
          </li>
        ))}
      </ul>
      {page?.next && (
        <button type="button" onClick={() => attempt(addPage())}>
          Older conversations
        </button>
      )}
    </section>
  );
}

function Results({ onLeave }: { onLeave: () => void }) {
  const asked = memory.query.value;
  const { value, problem } = useLoaded(asked, () => searchMemory(apiKey.value, asked));
  const found = value.value;
  return (
    <section aria-labelledby="memory-results">
      <div role="status">
        <h3 id="memory-results">
          {found
            ? `${counted(found.length, "text")} found`
            : problem.value
              ? "The search failed"
              : "Searching…"}
        </h3>
      </div>
      <Problem text={problem.value} />
      <ul class="quotes">
        {found?.map((episode) => (
          <li key={episode.id}>
            <Quote episode={episode} score={episode.score} open={memory.goTo} />
          </li>
        ))}
      </ul>
      <button type="button" onClick={onLeave}>
        All conversations
      </button>
    </section>
  );
}

function InContext({ id }: { id: string }) {
  const { value, problem } = useLoaded(id, () => readInContext(apiKey.value, id, AROUND));
  const failed = useSignal("");
  const told = value.value;
  const session = told?.episode.session;
  return (
    <section aria-labelledby="memory-view">
      <ViewTitle text="In context" />
      <Problem text={problem.value || failed.value} />
      <ol class="quotes">
        {told &&
          (told.context.some((one) => one.id === id) ? told.context : [told.episode]).map((one) => (
            <li key={one.id} aria-current={one.id === id ? "true" : undefined}>
              <Quote episode={one} current={one.id === id} open={memory.goTo} />
            </li>
          ))}
      </ol>
      {session && (
        <button
          type="button"
          onClick={() =>
            void memory
              .openSession(session)
              .catch((error: unknown) => (failed.value = failureOf(error).message))
          }
        >
          Open the conversation
        </button>
      )}
    </section>
  );
}

function Forget({ what, title }: { what: Selection; title: string }) {
  const { value, problem } = useLoaded("", () => wouldForget(apiKey.value, what));
  const receipt = useSignal<Receipt | null>(null);
  const failed = useSignal("");
  const busy = useSignal(false);
  const whole = "session" in what;
  const confirm = async (): Promise<void> => {
    busy.value = true;
    failed.value = "";
    try {
      receipt.value = await memory.forget(what);
    } catch (error) {
      failed.value = failureOf(error).message;
    }
    busy.value = false;
  };
  if (receipt.value) return <Forgotten receipt={receipt.value} />;
  return (
    <section aria-labelledby="memory-view">
      <ViewTitle text={whole ? "Forget this conversation?" : "Forget this text?"} />
      <p class="forget-title" dir="auto">
        {title}
      </p>
      <Problem text={problem.value || failed.value} />
      {value.value && (
        <>
          <p role="status">
            <strong>{counted(value.value.count, "text")}</strong>{" "}
            {value.value.count === 1 ? "goes" : "go"} for good
            {whole && ", with all that was said in the conversation, here and in this browser"}.
          </p>
          {whole && (
            <ul class="examples">
              {value.value.examples.slice(0, MOST_EXAMPLES).map(({ id, text }) => (
                <li key={id} dir="auto">
                  {text}
                </li>
              ))}
              {value.value.count > MOST_EXAMPLES && (
                <li>and {count(value.value.count - MOST_EXAMPLES)} more</li>
              )}
            </ul>
          )}
        </>
      )}
      <div class="buttons">
        <button type="button" onClick={memory.goBack}>
          Keep
        </button>
        <button
          type="button"
          class="danger"
          disabled={!value.value || busy.value}
          onClick={() => void confirm()}
        >
          {value.value ? `Forget ${counted(value.value.count, "text")}` : "Forget"}
        </button>
      </div>
    </section>
  );
}

function Forgotten({ receipt }: { receipt: Receipt }) {
  const { time, episodes, messages, notes, sessions, blocks } = receipt;
  const lines = [
    [episodes, counted(episodes, "text")],
    [messages, `${counted(messages, "message")} emptied or gone`],
    [notes, `${counted(notes, "message")} without what was recalled for them`],
    [sessions, counted(sessions, "conversation")],
    [blocks, `${counted(blocks, "block")} of the model's keys and values`],
  ] as const;
  return (
    <section aria-labelledby="memory-view" class="receipt">
      <ViewTitle text="Forgotten" />
      <ul>
        {lines.map(([number, text]) => number > 0 && <li key={text}>{text}</li>)}
      </ul>
      <p class="hint">{when(time)}</p>
      <div class="buttons">
        <button type="button" class="primary" onClick={memory.leaveForgotten}>
          Done
        </button>
      </div>
    </section>
  );
}

/** The heading of a view that was gone to; it takes the focus, so that it is read out. */
function ViewTitle({ text }: { text: string }) {
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => heading.current!.focus(), []);
  return (
    <div class="view-title">
      <button type="button" class="icon-button" aria-label="Back" onClick={memory.goBack}>
        <Icon name="back" />
      </button>
      <h3 id="memory-view" ref={heading} tabIndex={-1}>
        {text}
      </h3>
    </div>
  );
}

function Problem({ text }: { text: string }) {
  return text === "" ? null : (
    <p class="problem" role="alert">
      {text}
    </p>
  );
}
