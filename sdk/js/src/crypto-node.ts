// What node:crypto verifies. crypto-web.ts does the same elsewhere: package.json says which one is taken.
import { createHmac, createPublicKey, timingSafeEqual, verify } from "node:crypto";
import type { Bytes } from "./bytes.js";

/** Whether mac is the HMAC-SHA256 of message, in a time that does not depend on where the two differ. */
export async function verifyHmac(key: Bytes, message: Bytes, mac: Bytes): Promise<boolean> {
  const want = createHmac("sha256", key).update(message).digest();
  return mac.length === want.length && timingSafeEqual(mac, want);
}

// What stands before the 32 bytes of an ed25519 key in its DER form (RFC 8410).
const derPrefix = Buffer.from("302a300506032b6570032100", "hex");

export async function verifyEd25519(publicKey: Bytes, message: Bytes, signature: Bytes): Promise<boolean> {
  const key = createPublicKey({ key: Buffer.concat([derPrefix, publicKey]), format: "der", type: "spki" });
  return verify(null, message, key, signature);
}
