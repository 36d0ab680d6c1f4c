// What WebCrypto verifies, where there is no node:crypto. See crypto-node.ts.
import type { Bytes } from "./bytes.js";

/** Whether mac is the HMAC-SHA256 of message. WebCrypto's own comparison takes no time that says where they differ. */
export async function verifyHmac(key: Bytes, message: Bytes, mac: Bytes): Promise<boolean> {
  const imported = await importOnce(key, { name: "HMAC", hash: "SHA-256" });
  return crypto.subtle.verify("HMAC", imported, mac, message);
}

export async function verifyEd25519(publicKey: Bytes, message: Bytes, signature: Bytes): Promise<boolean> {
  const imported = await importOnce(publicKey, { name: "Ed25519" });
  return crypto.subtle.verify("Ed25519", imported, signature, message);
}

type ImportedKey = Awaited<ReturnType<typeof crypto.subtle.importKey>>;

// A verifier keeps its keys, and so the imported ones live as long as it does.
const imported = new WeakMap<Bytes, Promise<ImportedKey>>();

function importOnce(key: Bytes, algorithm: { name: string; hash?: string }): Promise<ImportedKey> {
  let promise = imported.get(key);
  if (promise === undefined) {
    promise = crypto.subtle.importKey("raw", key, algorithm as { name: string; hash: string }, false, ["verify"]);
    imported.set(key, promise);
  }
  return promise;
}
