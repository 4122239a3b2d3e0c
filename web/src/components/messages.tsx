import { useEffect, useMemo, useRef } from "preact/hooks";
import { live } from "../answering";
import { shown } from "../chats";
import { models, ready } from "../connection";
import { EndFollower } from "../scrolling";
import { AnswerItem } from "./answer-item";
import { Icon } from "./icons";
import { UserItem } from "./user-item";

/** The messages of the conversation shown, which scroll by themselves. */
export function Messages() {
  const scroller = useRef<HTMLElement>(null);
  const content = useRef<HTMLDivElement>(null);
  const follower = useMemo(() => new EndFollower(), []);
  useEffect(() => follower.attach(scroller.current!, content.current!), []);
  // Whoever asks wants to see the answer.
  const answerId = live.value?.answerId;
  useEffect(() => {
    if (answerId) follower.toEnd();
  }, [answerId]);

  const messages = shown.value?.messages ?? [];
  return (
    <main class="messages" ref={scroller} tabIndex={0} aria-label="Messages">
      <div class="column" ref={content}>
        {messages.length === 0 && <Welcome />}
        {messages.map((message) =>
          message.role === "user" ? (
            <UserItem key={message.id} message={message} />
          ) : (
            <AnswerItem key={message.id} answer={message} last={message === messages.at(-1)} />
          ),
        )}
      </div>
      {!follower.following.value && (
        <button type="button" class="to-end" onClick={() => follower.toEnd()}>
          <Icon name="down" />
          To the end
        </button>
      )}
    </main>
  );
}

function Welcome() {
  const [model] = models.value;
  return (
    <div class="welcome">
      <Icon name="mark" />
      <h2>What is on your mind?</h2>
      {ready.value && model && (
        <p>
          {models.value.length === 1 ? (
            <>
              <strong>{model.id}</strong> runs on this server.
            </>
          ) : (
            `${models.value.length} models run on this server.`
          )}
        </p>
      )}
      <dl class="keys">
        <div>
          <dt>
            <kbd>Enter</kbd>
          </dt>
          <dd>send</dd>
        </div>
        <div>
          <dt>
            <kbd>Shift</kbd> <kbd>Enter</kbd>
          </dt>
          <dd>new line</dd>
        </div>
        <div>
          <dt>
            <kbd>Esc</kbd>
          </dt>
          <dd>stop the answer</dd>
        </div>
        <div>
          <dt>
            <kbd>↑</kbd>
          </dt>
          <dd>edit the last message</dd>
        </div>
      </dl>
    </div>
  );
}
