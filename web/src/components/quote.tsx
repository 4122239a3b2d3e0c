import { type Episode, type Found, originOf, reasons } from "../episode";
import { when } from "../format";
import type { View } from "../memory";

interface Props {
  episode: Episode | Found;
  /** How sure the memory was; not shown without. */
  score?: number;
  /** It is the one that is read in context, so it does not lead there. */
  current?: boolean;
  open: (view: View) => void;
}

/** A remembered text as it was said, where it comes from, and what may be done with it. */
export function Quote({ episode, score, current = false, open }: Props) {
  const { id, text, time } = episode;
  return (
    <figure class={current ? "quote current" : "quote"}>
      <blockquote dir="auto">{text}</blockquote>
      <figcaption>
        <span>
          {originOf(episode)}, {when(time)}
          {score !== undefined && `, score ${score.toFixed(2)}`}
        </span>
        <span class="quote-actions">
          {!current && (
            <button type="button" class="quiet" onClick={() => open({ at: "episode", id })}>
              In context
            </button>
          )}
          <button
            type="button"
            class="quiet"
            onClick={() => open({ at: "forget", what: { episodes: [id] }, title: text })}
          >
            Forget
          </button>
        </span>
        {"why" in episode && episode.why.length > 0 && (
          <span class="why">Found by {reasons(episode)}</span>
        )}
      </figcaption>
    </figure>
  );
}
