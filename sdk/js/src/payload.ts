import { decodeText } from "./bytes.js";
import { ReceiverError } from "./errors.js";

/** The JSON of a body, as its exact text and as what it stands for. */
export function readPayload(contentType: string, body: Uint8Array): { text: string; payload: unknown } {
  const form = contentType.split(";", 1)[0]?.trim().toLowerCase() === "application/x-www-form-urlencoded";
  const whole = decodeText(body);
  const text = form && whole !== undefined ? readField(whole, "payload") : whole;
  try {
    if (text !== undefined) {
      return { text, payload: JSON.parse(text) as unknown };
    }
  } catch {
    // said below
  }
  throw new ReceiverError("no_payload", "no JSON payload in the body");
}

/**
 * The first field of a form with this name. URLSearchParams would do, if it did not put something else in the place of
 * what it cannot decode.
 */
function readField(form: string, name: string): string | undefined {
  if (form.includes(";")) {
    return undefined; // once stood between fields, and is always escaped within one
  }
  try {
    const fields = form.split("&").filter((field) => field !== "").map((field) => {
      const [key = "", ...value] = field.replaceAll("+", " ").split("=");
      return [decodeURIComponent(key), decodeURIComponent(value.join("="))] as const;
    });
    return fields.find(([key]) => key === name)?.[1];
  } catch {
    return undefined;
  }
}
