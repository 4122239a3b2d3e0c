/** What a component asks the server for while it is shown. */
import { type ReadonlySignal, useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { failureOf } from "./connection";

export interface Loaded<T> {
  /** Null until it has come. */
  value: ReadonlySignal<T | null>;
  /** Why it did not come; empty else. */
  problem: ReadonlySignal<string>;
}

/** Asks anew whenever `key` changes; an answer that comes too late is dropped. */
export function useLoaded<T>(key: string, load: () => Promise<T>): Loaded<T> {
  const value = useSignal<T | null>(null);
  const problem = useSignal("");
  useEffect(() => {
    let wanted = true;
    value.value = null;
    problem.value = "";
    load().then(
      (come) => wanted && (value.value = come),
      (error: unknown) => wanted && (problem.value = failureOf(error).message),
    );
    return () => void (wanted = false);
  }, [key]);
  return { value, problem };
}
