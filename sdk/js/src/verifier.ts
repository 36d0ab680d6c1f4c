import { verifyEd25519, verifyHmac } from "#crypto";
import { type Bytes, decodeBase64, decodeHex, decodeStrictBase64, encodeLatin1, encodeText, join } from "./bytes.js";
import { ReceiverError } from "./errors.js";
import { type HeaderSource, HeaderValues } from "./headers.js";

/** Whom a verifier trusts. At least one secret or public key must be given. */
export interface VerifierOptions {
  /**
   * Secrets in their text as you see it, `whsec_` included. During a rotation there are two: the new one may be added
   * before it is in use, and the old one taken away when it no longer is.
   */
  secrets?: readonly string[];
  /** Public keys for `v1a` (ed25519) signatures, each `whpk_` and base64. */
  publicKeys?: readonly string[];
  /** How far a timestamp may be from this machine's clock, either way, in seconds: 300 unless set. */
  tolerance?: number;
}

/** Checks signatures, and nothing else. A `Receiver` has one; take this one alone where you need no more. */
export class Verifier {
  readonly #hexKeys: readonly Bytes[];
  readonly #standardKeys: readonly Bytes[];
  readonly #publicKeys: readonly Bytes[];
  readonly #tolerance: number;

  /** Throws a `ReceiverError` with the code `bad_key` for a key that cannot be one, and when there is none. */
  constructor(options: VerifierOptions) {
    const { secrets = [], publicKeys = [], tolerance = 300 } = options;
    if (!(tolerance > 0)) {
      throw new RangeError("a tolerance is above zero");
    }
    if (secrets.length + publicKeys.length === 0) {
      throw new ReceiverError("bad_key", "not a usable key: neither a secret nor a public key is given");
    }
    this.#standardKeys = secrets.map(standardKey);
    this.#hexKeys = secrets.map(encodeText);
    this.#publicKeys = publicKeys.map(publicKey);
    this.#tolerance = tolerance;
  }

  /**
   * Checks the value of the hex family's header (`X-Clubmed-Signature`) against the body, which must be the exact bytes
   * that were received. Rejects with a `ReceiverError` unless one of the secrets made the signature.
   *
   * This family signs the body only: neither the time nor the delivery's id.
   */
  async verifyHex(value: string, body: Uint8Array | string): Promise<void> {
    if (value === "") {
      throw new ReceiverError("missing", "header missing");
    }
    const digits = /^sha256=([0-9a-f]{64})$/.exec(value)?.[1];
    if (digits === undefined) {
      throw new ReceiverError("malformed", "header malformed: want sha256= and 64 lower-case hex digits");
    }
    const mac = decodeHex(digits);
    const message = toBytes(body);
    for (const key of this.#hexKeys) {
      if (await verifyHmac(key, message, mac)) {
        return;
      }
    }
    throw noMatch();
  }

  /**
   * Checks the three headers of Standard Webhooks against the body, which must be the exact bytes that were received,
   * and against now. Rejects with a `ReceiverError` unless one of the keys made one of the signatures, at a time that
   * is within the tolerance.
   *
   * A request that is accepted can be sent again within the tolerance: remember `webhook-id` for that long at least.
   */
  async verifyStandard(headers: HeaderSource, body: Uint8Array | string, now = new Date()): Promise<void> {
    const values = new HeaderValues(headers);
    const id = values.oneId("webhook-id");
    const timestamp = parseTimestamp(values.one("webhook-timestamp"));
    const age = now.getTime() / 1000 - timestamp;
    if (age > this.#tolerance) {
      throw new ReceiverError("too_old", "timestamp too old");
    }
    if (-age > this.#tolerance) {
      throw new ReceiverError("too_new", "timestamp too new");
    }
    const { v1, v1a } = parseSignatures(values.one("webhook-signature"));
    const message = join([encodeLatin1(`${id}.${timestamp}.`), toBytes(body)]);
    for (const key of this.#standardKeys) {
      for (const signature of v1) {
        if (await verifyHmac(key, message, signature)) {
          return;
        }
      }
    }
    for (const key of this.#publicKeys) {
      for (const signature of v1a) {
        if (await verifyEd25519(key, message, signature)) {
          return;
        }
      }
    }
    throw noMatch();
  }
}

const noMatch = () => new ReceiverError("no_match", "no signature matches");

const toBytes = (body: Uint8Array | string): Bytes =>
  typeof body === "string" ? encodeText(body) : (body as Bytes); // neither crypto writes to it or keeps it

/** The key of v1: what follows whsec_ is base64 of it, and any other secret is the key as it stands. */
function standardKey(secret: string): Bytes {
  if (typeof secret !== "string" || secret === "" || /[\r\n]/.test(secret)) {
    throw new ReceiverError("bad_key", "not a usable key: a secret is one line and not empty");
  }
  if (!secret.startsWith("whsec_")) {
    return encodeText(secret);
  }
  const key = decodeBase64(secret.slice("whsec_".length));
  if (key === undefined || key.length === 0) {
    throw new ReceiverError("bad_key", "not a usable key: what follows whsec_ must be base64, standard alphabet, padded");
  }
  return key;
}

function publicKey(text: string): Bytes {
  const key = text.startsWith("whpk_") ? decodeBase64(text.slice("whpk_".length)) : undefined;
  if (key?.length !== 32) {
    throw new ReceiverError("bad_key", "not a usable key: want whpk_ and the base64 of 32 bytes");
  }
  return key;
}

/** Takes only the spelling that signers write, since that is what was signed. */
function parseTimestamp(text: string): number {
  const seconds = Number(text);
  if (!/^(?:0|[1-9][0-9]*)$/.test(text) || seconds >= 2 ** 40) {
    throw new ReceiverError("bad_timestamp", "webhook-timestamp is not Unix seconds");
  }
  return seconds;
}

/** Sorts the entries by version. Those that are not known are passed over: they may come to exist. */
function parseSignatures(list: string): { v1: Bytes[]; v1a: Bytes[] } {
  const entries = list.split(" ");
  if (entries.length > 20) {
    throw new ReceiverError("malformed", "header malformed: webhook-signature has more than 20 entries");
  }
  if (!entries.some((entry) => /^[^,]+,./s.test(entry))) {
    throw new ReceiverError("malformed", "header malformed: webhook-signature has no entry of a version and a signature");
  }
  const of = (version: string, size: number) =>
    entries
      .filter((entry) => entry.startsWith(version))
      .map((entry) => decodeStrictBase64(entry.slice(version.length)))
      .filter((signature) => signature?.length === size) as Bytes[];
  return { v1: of("v1,", 32), v1a: of("v1a,", 64) };
}
