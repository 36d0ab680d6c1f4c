/** Bytes in memory of their own, which is what WebCrypto takes. */
export type Bytes = Uint8Array<ArrayBuffer>;

export const encodeText = (text: string): Bytes => new TextEncoder().encode(text);

/** The bytes of text in which each character stands for one, as in headers. */
export const encodeLatin1 = (text: string): Bytes => Uint8Array.from(text, (character) => character.charCodeAt(0));

/** The text that UTF-8 bytes stand for, with a byte order mark if they have one; undefined when they are no text. */
export function decodeText(bytes: Uint8Array): string | undefined {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return undefined;
  }
}

const base64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;

/** The bytes of padded base64 in the standard alphabet; undefined when it is none. */
export function decodeBase64(text: string): Bytes | undefined {
  return base64.test(text) ? encodeLatin1(atob(text)) : undefined;
}

/** Likewise, of the one spelling that signers write: base64 has several of the same bytes. */
export function decodeStrictBase64(text: string): Bytes | undefined {
  return base64.test(text) && btoa(atob(text)) === text ? encodeLatin1(atob(text)) : undefined;
}

/** The bytes of an even number of hex digits. */
export const decodeHex = (digits: string): Bytes =>
  Uint8Array.from({ length: digits.length / 2 }, (_, i) => Number.parseInt(digits.slice(2 * i, 2 * i + 2), 16));

export function join(parts: readonly Uint8Array[]): Bytes {
  const whole = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
