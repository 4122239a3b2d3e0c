import type { TextareaHTMLAttributes } from "preact";
import { useLayoutEffect, useRef } from "preact/hooks";

type Props = TextareaHTMLAttributes & { value: string };

/** A text box as high as its text; style sheets set the limit. */
export function GrowingTextarea(props: Props) {
  const element = useRef<HTMLTextAreaElement>(null);
  useLayoutEffect(() => {
    const area = element.current!;
    // The scroll height is never less than the height: to shrink, the height is let go first.
    area.style.height = "auto";
    const borders = area.offsetHeight - area.clientHeight;
    area.style.height = `${area.scrollHeight + borders}px`;
  }, [props.value]);
  return <textarea {...props} ref={element} rows={1} dir="auto" />;
}
