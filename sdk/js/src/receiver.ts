import { encodeText } from "./bytes.js";
import { ReceiverError } from "./errors.js";
import { type FastifyPlugin, fastifyPlugin } from "./fastify.js";
import { type FetchListener, fetchListener } from "./fetch.js";
import { type HeaderSource, HeaderValues } from "./headers.js";
import { type ExpressMiddleware, expressMiddleware, type NodeListener, nodeListener } from "./node.js";
import { readPayload } from "./payload.js";
import { Seen } from "./seen.js";
import { Verifier, type VerifierOptions } from "./verifier.js";

/** Whom a receiver trusts and what it does beside. At least one secret or public key must be given. */
export interface ReceiverOptions extends VerifierOptions {
  /**
   * Also takes a request that has no header of Standard Webhooks, by its hex signature. Whoever got hold of one request
   * can make such a one of it, and send it at any time and under any delivery id: the hex family signs neither.
   * Postrider's own requests never need it.
   */
  acceptHex?: boolean;
  /** The word in the names of the sender's headers, X-Brand-Event and so on: `Clubmed` unless set. */
  brand?: string;
  /** How many bytes of body are read: 4 MiB unless set. A form is up to three times as long as its payload. */
  maxBody?: number;
  /**
   * How many deliveries are remembered, to answer those that come again without handing them on; none unless set. They
   * are kept in memory: where there is a database, a unique index over the id is better, since it outlives a restart
   * and counts for all processes.
   */
  remember?: number;
  /** Is told why a request was not handed on. */
  onRefused?: (error: ReceiverError) => void;
}

/**
 * What a request brings. The payload is signed; the id is, unless the request was taken by its hex signature; the rest
 * is what the sender's headers say, as trustworthy as the connection.
 */
export interface Delivery {
  /** The same however often the event is sent: drop what has come before. */
  readonly id: string;
  /** The event type, such as `room_status.updated`; `ping` for pings. */
  readonly event: string;
  /** The id of the webhook that it was sent for. */
  readonly webhookId: string;
  /** Counts from 1, and is 0 when the request does not say. */
  readonly attempt: number;
  /** What the JSON stands for, whether it came as the body or in a form. */
  readonly payload: unknown;
  /** The same JSON, exactly as the producer published it: `JSON.parse` rounds large numbers. */
  readonly text: string;
}

/**
 * Handles a delivery. Write it to a table or a queue and return, or resolve, once that is done: the request is then
 * answered 204, and the sender does not send it again. When it throws, the request is answered 500, and comes again.
 */
export type Handler = (delivery: Delivery) => void | Promise<void>;

/** An answer to a request. */
export interface Answer {
  readonly status: number;
  readonly text: string;
}

/** Takes the deliveries of a sender: the same for every server, with one adapter for each. */
export class Receiver {
  readonly #verifier: Verifier;
  readonly #acceptHex: boolean;
  readonly #prefix: string;
  readonly #seen: Seen | undefined;
  readonly #onRefused: ((error: ReceiverError) => void) | undefined;
  /** How many bytes of body are read. */
  readonly maxBody: number;

  /** Throws a `ReceiverError` with the code `bad_key` when it would trust nobody, or anybody. */
  constructor(options: ReceiverOptions) {
    const { acceptHex = false, brand = "Clubmed", maxBody = 4 * 1024 * 1024, remember = 0 } = options;
    this.#verifier = new Verifier(options);
    if (acceptHex && !options.secrets?.length) {
      throw new ReceiverError("bad_key", "not a usable key: the hex family needs a secret");
    }
    if (!(maxBody > 0) || !(remember >= 0)) {
      throw new RangeError("a limit is below zero");
    }
    if (!/^[A-Za-z0-9-]+$/.test(brand)) {
      throw new RangeError(`${JSON.stringify(brand)} cannot stand in the name of a header`);
    }
    this.#acceptHex = acceptHex;
    this.#prefix = `X-${brand}-`;
    this.#seen = remember > 0 ? new Seen(remember) : undefined;
    this.#onRefused = options.onRefused;
    this.maxBody = maxBody;
  }

  /**
   * Verifies a request and takes out what it brings. The body must be the exact bytes that were received. It is for
   * servers that no adapter fits; it neither limits the body nor drops what has come before.
   *
   * A request with any header of Standard Webhooks is verified by those. Rejects with a `ReceiverError`, whose `status`
   * is what to answer.
   */
  async receive(headers: HeaderSource, body: Uint8Array | string, now = new Date()): Promise<Delivery> {
    const values = new HeaderValues(headers);
    const bytes = typeof body === "string" ? encodeText(body) : body;
    const id = await this.#verify(headers, values, bytes, now);
    const attempt = values.first(`${this.#prefix}Attempt`);
    return {
      id,
      event: values.first(`${this.#prefix}Event`),
      webhookId: values.first(`${this.#prefix}Hook-ID`),
      attempt: /^[0-9]+$/.test(attempt) && Number(attempt) < 2 ** 31 ? Number(attempt) : 0,
      ...readPayload(values.first("content-type"), bytes),
    };
  }

  /**
   * Resolves with the delivery's id. A request that has but one header of Standard Webhooks is never judged by its hex
   * signature: a stale one would pass with its timestamp taken out.
   */
  async #verify(headers: HeaderSource, values: HeaderValues, body: Uint8Array, now: Date): Promise<string> {
    const standard = ["webhook-id", "webhook-timestamp", "webhook-signature"].some((name) => values.has(name));
    if (standard || !this.#acceptHex) {
      await this.#verifier.verifyStandard(headers, body, now);
      return values.first("webhook-id");
    }
    const id = values.oneId(`${this.#prefix}Delivery`);
    try {
      await this.#verifier.verifyHex(values.one(`${this.#prefix}Signature`), body);
    } catch (error) {
      // A sender adds the signature of the secret before while a secret is rotated: a receiver that has not heard of the
      // new one yet goes on working.
      const previous = `${this.#prefix}Signature-Previous`;
      if (!(error instanceof ReceiverError && error.code === "no_match" && values.has(previous))) {
        throw error;
      }
      await this.#verifier.verifyHex(values.one(previous), body);
    }
    return id;
  }

  /**
   * What the adapters have in common: reads the body, hands the delivery on unless it has come before, and says what to
   * answer. Rejects with what the handler throws, and with a `ReceiverError` that is no fault of the request.
   */
  async answer(headers: HeaderSource, readBody: () => Promise<Uint8Array>, handler: Handler): Promise<Answer> {
    let delivery: Delivery;
    try {
      delivery = await this.receive(headers, await readBody());
    } catch (error) {
      if (!(error instanceof ReceiverError) || error.status >= 500) {
        throw error;
      }
      this.#onRefused?.(error);
      return { status: error.status, text: error.message + "\n" };
    }
    const handle = async () => handler(delivery);
    await (this.#seen === undefined ? handle() : this.#seen.once(delivery.id, handle));
    return { status: 204, text: "" };
  }

  /**
   * Middleware for Express and its like: `app.post("/api/callback", receiver.express(handler))`. It must come before
   * anything that reads the body, such as `express.json()`; `express.raw()` does no harm. What the handler throws goes
   * to the application's own error handler.
   */
  express(handler: Handler): ExpressMiddleware {
    return expressMiddleware(this, handler);
  }

  /** A plugin for Fastify: `app.register(receiver.fastify("/api/callback", handler))`. The rest of the application keeps its parsers. */
  fastify(path: string, handler: Handler): FastifyPlugin {
    return fastifyPlugin(this, path, handler);
  }

  /**
   * From a `Request` to a `Response`, for Deno, Bun, Cloudflare Workers, Hono, Next.js and their like. It rejects with
   * what the handler throws, which is a 500 in all of them.
   */
  fetch(handler: Handler): FetchListener {
    return fetchListener(this, handler);
  }

  /** A listener for `http.createServer`, or a part of one. What the handler throws is printed to the standard error. */
  node(handler: Handler): NodeListener {
    return nodeListener(this, handler);
  }
}
