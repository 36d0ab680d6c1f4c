import { ReceiverError } from "./errors.js";

/** The headers of a request, as `fetch` or Node.js has them. The case of a record's names does not matter. */
export type HeaderSource =
  | { get(name: string): string | null }
  | Readonly<Record<string, string | readonly string[] | undefined>>;

/** All headers of a request under their lower-case names. */
export class HeaderValues {
  readonly #get: (name: string) => readonly string[];

  constructor(source: HeaderSource) {
    if (isHeaders(source)) {
      this.#get = (name) => {
        const value = source.get(name);
        return value === null ? [] : [value];
      };
      return;
    }
    const values = new Map<string, string[]>();
    for (const [name, value] of Object.entries(source)) {
      if (value !== undefined) {
        values.set(name.toLowerCase(), [...(values.get(name.toLowerCase()) ?? []), ...[value].flat()]);
      }
    }
    this.#get = (name) => values.get(name.toLowerCase()) ?? [];
  }

  has(name: string): boolean {
    return this.#get(name).length > 0;
  }

  /** The first value, or nothing. */
  first(name: string): string {
    return this.#get(name)[0] ?? "";
  }

  /** The value of a header that must stand once. */
  one(name: string): string {
    const values = this.#get(name);
    if (values.length > 1) {
      throw new ReceiverError("malformed", `header malformed: ${name} stands more than once`);
    }
    if (!values[0]) {
      throw new ReceiverError("missing", `header missing: ${name}`);
    }
    return values[0];
  }

  /**
   * The value of a header that names a delivery. With a dot in it, the signed text of one message could be cut in
   * other places and read as another message.
   */
  oneId(name: string): string {
    const id = this.one(name);
    // Node.js and fetch give the bytes of a header as characters up to U+00FF.
    if (id.length > 256 || /[.\u0100-\uffff]/.test(id)) {
      throw new ReceiverError("malformed", `header malformed: ${name} is longer than 256 bytes or holds a dot`);
    }
    return id;
  }
}

function isHeaders(source: HeaderSource): source is { get(name: string): string | null } {
  return typeof source.get === "function";
}
