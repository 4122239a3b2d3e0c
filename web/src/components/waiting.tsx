import { useComputed, useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import type { Live } from "../answering";

const TICK_MS = 250;
/** Shorter waits need no number. */
const SHOW_SECONDS_FROM = 2;

/** What the page waits for, until the first text is there. */
export function Waiting({ live }: { live: Live }) {
  const started = useComputed(() => live.text.value !== "");
  const now = useSignal(performance.now());
  const since = useSignal(performance.now());
  useEffect(() => {
    const timer = setInterval(() => (now.value = performance.now()), TICK_MS);
    return () => clearInterval(timer);
  }, []);
  useEffect(() => {
    since.value = performance.now();
  }, [live.retryAt.value]);

  if (started.value) return null;
  const { value: retryAt } = live.retryAt;
  if (retryAt !== null) {
    const left = Math.max(1, Math.ceil((retryAt - now.value) / 1000));
    return <p class="waiting">The server is busy; trying again in {left} s.</p>;
  }
  const passed = Math.floor((now.value - since.value) / 1000);
  return (
    <p class="waiting">
      <span class="dots" aria-hidden="true" />
      Reading the prompt{passed >= SHOW_SECONDS_FROM ? ` for ${passed} s` : ""}
    </p>
  );
}
