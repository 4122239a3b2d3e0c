import { useSignal } from "@preact/signals";
import { copyText } from "../clipboard";
import { IconButton } from "./icon-button";

const SHOW_DONE_MS = 1500;

export function CopyButton({ text, label }: { text: string; label: string }) {
  const done = useSignal(false);
  const copy = async (): Promise<void> => {
    done.value = await copyText(text);
    setTimeout(() => (done.value = false), SHOW_DONE_MS);
  };
  return (
    <IconButton icon={done.value ? "check" : "copy"} label={label} onClick={() => void copy()} />
  );
}
