import type { ComponentChildren } from "preact";
import { useLayoutEffect, useRef } from "preact/hooks";

interface Props {
  title: string;
  /** Where it stands; a class of dialogs.css. */
  place: "middle" | "start" | "end";
  /** Called after Escape, a click beside the dialog, or a form that closes it. */
  onClose: () => void;
  children: ComponentChildren;
}

/** The browser's own modal dialog: it keeps the focus inside and gives it back afterwards. */
export function Modal({ title, place, onClose, children }: Props) {
  const element = useRef<HTMLDialogElement>(null);
  useLayoutEffect(() => {
    const dialog = element.current!;
    dialog.showModal();
    return () => {
      // The event comes later; by then another dialog may be open, which it must not close.
      dialog.onclose = null;
      dialog.close();
      queueMicrotask(focusAgain);
    };
  }, []);
  useLayoutEffect(() => {
    element.current!.onclose = onClose;
  }, [onClose]);
  return (
    <dialog
      ref={element}
      class={place}
      aria-labelledby="dialog-title"
      onClick={(event) => {
        // Only the backdrop is the dialog itself; all content lies in the div.
        if (event.target === element.current) element.current?.close();
      }}
    >
      <div class="dialog-body">
        <h2 id="dialog-title">{title}</h2>
        {children}
      </div>
    </dialog>
  );
}

/** Chromium gives a text box its focus back, but no keys reach it once the dialog is removed. */
function focusAgain(): void {
  const focused = document.activeElement;
  if (!(focused instanceof HTMLElement)) return;
  focused.blur();
  focused.focus();
}
