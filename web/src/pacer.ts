/** Runs repeated work once per frame at most, and less often when it is slow. */
export class Pacer {
  #timer = 0;
  #frame = 0;
  #freeAt = 0;

  constructor(readonly work: () => void) {}

  /** Asks for the work to be done soon; asking again before it is done changes nothing. */
  request(): void {
    if (this.#timer !== 0 || this.#frame !== 0) return;
    const wait = this.#freeAt - performance.now();
    if (wait <= 0) this.#nextFrame();
    else this.#timer = window.setTimeout(() => this.#nextFrame(), wait);
  }

  cancel(): void {
    clearTimeout(this.#timer);
    cancelAnimationFrame(this.#frame);
    this.#timer = this.#frame = 0;
  }

  #nextFrame(): void {
    this.#timer = 0;
    this.#frame = requestAnimationFrame(() => {
      this.#frame = 0;
      const start = performance.now();
      this.work();
      const end = performance.now();
      // A third of the time for this work, the rest for the reader's scrolling and typing.
      this.#freeAt = end + 2 * (end - start);
    });
  }
}
