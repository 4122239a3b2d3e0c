import { answerAgain, live } from "../answering";
import { shown } from "../chats";
import { ready } from "../connection";
import type { Answer } from "../conversation";
import type { Recalled } from "../episode";
import { figures } from "../format";
import { openMemory } from "../memory";
import { splitThoughts } from "../thinking";
import { AnswerText } from "./answer-text";
import { CopyButton } from "./copy-button";
import { IconButton } from "./icon-button";
import { Quote } from "./quote";
import { Waiting } from "./waiting";

/** One answer, with what it cost below it, or why it failed. */
export function AnswerItem({ answer, last }: { answer: Answer; last: boolean }) {
  const current = live.value?.answerId === answer.id ? live.value : undefined;
  return (
    <article class="answer" aria-label="Answer" aria-busy={current !== undefined}>
      <h2 class="visually-hidden">Answer</h2>
      <AnswerText text={answer.text} live={current} />
      {current ? <Waiting live={current} /> : <Footer answer={answer} last={last} />}
    </article>
  );
}

/** Below a finished answer: why it failed, what it cost, what was remembered for it. */
function Footer({ answer, last }: { answer: Answer; last: boolean }) {
  const again = (): void => answerAgain(shown.value!.id);
  return (
    <footer>
      {answer.failure && (
        <div class="failure" role="alert">
          <p>{answer.failure.message}</p>
          {last && (
            <button type="button" disabled={!ready.value} onClick={again}>
              Try again
            </button>
          )}
        </div>
      )}
      <div class="foot">
        <div class="actions">
          {answer.text !== "" && (
            <CopyButton text={splitThoughts(answer.text).answer} label="Copy answer" />
          )}
          {last && ready.value && !answer.failure && (
            <IconButton icon="again" label="Answer again" onClick={again} />
          )}
        </div>
        <ul class="figures" aria-label="Figures">
          {answer.ending === "cancelled" && <li>stopped</li>}
          {answer.ending === "length" && (
            <li title="The answer reached the most tokens it may have">cut at the limit</li>
          )}
          {figures(answer).map(({ text, meaning }) => (
            <li key={meaning} title={meaning}>
              {text}
            </li>
          ))}
        </ul>
      </div>
      {answer.recalled && answer.recalled.length > 0 && <Remembered episodes={answer.recalled} />}
    </footer>
  );
}

/** What the server quoted to the model, out of other conversations. */
function Remembered({ episodes }: { episodes: Recalled[] }) {
  return (
    <details class="remembered">
      <summary>remembered: {episodes.length}</summary>
      <ul class="quotes">
        {episodes.map((episode) => (
          <li key={episode.id}>
            <Quote episode={episode} score={episode.score} open={openMemory} />
          </li>
        ))}
      </ul>
    </details>
  );
}
