import { effect } from "@preact/signals";
import { useLayoutEffect, useMemo, useRef } from "preact/hooks";
import type { Live } from "../answering";
import { MarkdownView } from "../markdown-view";
import { Pacer } from "../pacer";
import { splitThoughts } from "../thinking";

interface Props {
  /** The whole text; ignored while `live` brings it. */
  text: string;
  live: Live | undefined;
}

/** The text of an answer, painted past the component tree: it may grow many times a second. */
export function AnswerText({ text, live }: Props) {
  const body = useRef<HTMLDivElement>(null);
  const details = useRef<HTMLDetailsElement>(null);
  const thoughts = useRef<HTMLDivElement>(null);
  const paint = useMemo(() => {
    let view: MarkdownView | undefined;
    return (source: string, finished: boolean): void => {
      view ??= new MarkdownView(body.current!);
      const parts = splitThoughts(source);
      details.current!.hidden = parts.thoughts === "";
      details.current!.querySelector("summary")!.textContent = parts.thinking
        ? "Thinking…"
        : "Thoughts";
      thoughts.current!.textContent = parts.thoughts;
      view.show(parts.answer, finished);
    };
  }, []);

  useLayoutEffect(() => {
    if (!live) return paint(text, true);
    const pacer = new Pacer(() => paint(live.text.peek(), false));
    const unsubscribe = effect(() => {
      if (live.text.value !== "") pacer.request();
    });
    return () => {
      unsubscribe();
      pacer.cancel();
    };
  }, [text, live]);

  return (
    <>
      <details ref={details} class="thoughts" hidden>
        <summary />
        <div ref={thoughts} dir="auto" />
      </details>
      <div ref={body} class={live ? "markdown growing" : "markdown"} />
    </>
  );
}
