/**
 * Why a request was not handed on, or could not be:
 *
 * - `missing`: a header that carries the signature is not there, or empty
 * - `malformed`: a header cannot be what a sender writes
 * - `bad_timestamp`: webhook-timestamp is not a number of Unix seconds
 * - `too_old`: signed too long ago; it may be an old request sent again by somebody else
 * - `too_new`: claims to be signed in the future
 * - `no_match`: no signature fits the body and a trusted key
 * - `no_payload`: signed, and yet without JSON in its body, or in the field payload of its form
 * - `too_large`: the body is longer than `maxBody`
 * - `cut_short`: the sender went away in the middle of the body
 * - `body_used`: something before the receiver has read or parsed the body; that is for you to mend
 * - `bad_key`: a secret or a public key in the options cannot be one; likewise
 */
export type ErrorCode =
  | "missing"
  | "malformed"
  | "bad_timestamp"
  | "too_old"
  | "too_new"
  | "no_match"
  | "no_payload"
  | "too_large"
  | "cut_short"
  | "body_used"
  | "bad_key";

const statuses: Partial<Record<ErrorCode, number>> = {
  no_payload: 400,
  cut_short: 400,
  too_large: 413,
  body_used: 500,
  bad_key: 500,
};

/** Every error of this package. Its message never contains a key. */
export class ReceiverError extends Error {
  override readonly name = "ReceiverError";
  readonly code: ErrorCode;
  /** What the request is to be answered with: 401 unless the code says otherwise. */
  readonly status: number;

  constructor(code: ErrorCode, message: string) {
    super(message);
    this.code = code;
    this.status = statuses[code] ?? 401;
  }
}
