/** Keeps the end of a growing text in sight, unless the reader has scrolled away from it. */
import { signal } from "@preact/signals";

/** Nearer than this many pixels counts as the end. */
const NEAR = 24;

export class EndFollower {
  readonly following = signal(true);
  #top = 0;
  #height = 0;
  #resized = new ResizeObserver(() => this.#follow());

  /**
   * @param scroller the element that scrolls; @param content what grows inside it.
   * Returns what ends the following.
   */
  attach(scroller: HTMLElement, content: HTMLElement): () => void {
    this.#scroller = scroller;
    this.#resized.observe(content);
    this.#resized.observe(scroller);
    scroller.addEventListener("scroll", this.#scrolled, { passive: true });
    this.#follow();
    return () => {
      this.#resized.disconnect();
      scroller.removeEventListener("scroll", this.#scrolled);
    };
  }

  /** Goes to the end and stays there. */
  toEnd(): void {
    this.following.value = true;
    this.#follow();
  }

  #scroller: HTMLElement | null = null;

  #follow(): void {
    const scroller = this.#scroller;
    if (!scroller) return;
    if (this.following.value) scroller.scrollTop = scroller.scrollHeight;
    this.#remember(scroller);
  }

  #scrolled = (): void => {
    const scroller = this.#scroller!;
    const { scrollTop, scrollHeight, clientHeight } = scroller;
    // Content that shrinks moves the position too; only the reader moves it within the same.
    const up = scrollTop < this.#top - 1 && scrollHeight >= this.#height;
    const atEnd = scrollHeight - scrollTop - clientHeight < NEAR;
    if (up) this.following.value = false;
    else if (atEnd) this.following.value = true;
    this.#remember(scroller);
  };

  #remember({ scrollTop, scrollHeight }: HTMLElement): void {
    this.#top = scrollTop;
    this.#height = scrollHeight;
  }
}
