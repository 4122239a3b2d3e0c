import type { ComponentChildren } from "preact";
import { Icon, type IconName } from "./icons";

interface Props {
  icon: IconName;
  /** The name of the button, for screen readers and as its tooltip. */
  label: string;
  onClick: () => void;
  class?: string;
  children?: ComponentChildren;
}

/** A button with an icon; children, if any, are its visible text. */
export function IconButton({ icon, label, onClick, class: extra = "", children }: Props) {
  return (
    <button
      type="button"
      class={`icon-button ${extra}`}
      aria-label={label}
      title={label}
      onClick={onClick}
    >
      <Icon name={icon} />
      {children}
    </button>
  );
}
