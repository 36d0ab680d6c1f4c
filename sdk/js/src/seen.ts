/** Remembers which deliveries have been handled, the newest so many, and knows which are being handled. */
export class Seen {
  readonly #size: number;
  readonly #handled = new Set<string>(); // oldest first
  readonly #running = new Map<string, Promise<void>>(); // none of them rejects

  constructor(size: number) {
    this.#size = size;
  }

  /**
   * Calls handle unless it has been called for this id with success. While another call is under way this one waits for
   * it, and takes its place when it fails.
   */
  async once(id: string, handle: () => Promise<void>): Promise<void> {
    for (let running; (running = this.#running.get(id)) !== undefined; ) {
      await running;
    }
    if (this.#handled.has(id)) {
      return;
    }
    const work = Promise.resolve()
      .then(handle)
      .then(() => this.#remember(id))
      .finally(() => this.#running.delete(id));
    this.#running.set(id, work.catch(() => {}));
    await work;
  }

  #remember(id: string): void {
    this.#handled.add(id);
    for (const oldest of this.#handled) {
      if (this.#handled.size <= this.#size) {
        break;
      }
      this.#handled.delete(oldest);
    }
  }
}
