// Signs and sends as Postrider does, with nothing of the package under test.
import { createHmac } from "node:crypto";
import { request } from "node:http";

export const secret = "clé secrète ☂";
export const form = (payload) => "payload=" + encodeURIComponent(payload).replaceAll("%20", "+");
export const jsonType = "application/json";
export const formType = "application/x-www-form-urlencoded";

/** The headers of a delivery of this body, signed now. */
export function headersOf(body, { id = "msg_1", contentType = jsonType, key = secret } = {}) {
  const timestamp = String(Math.floor(Date.now() / 1000));
  const hmac = (text, encoding) => createHmac("sha256", key).update(text).update(body).digest(encoding);
  return {
    "Content-Type": contentType,
    "X-Clubmed-Event": "room_status.updated",
    "X-Clubmed-Delivery": id,
    "X-Clubmed-Hook-ID": "hook_1",
    "X-Clubmed-Attempt": "2",
    "X-Clubmed-Signature": "sha256=" + hmac("", "hex"),
    "webhook-id": id,
    "webhook-timestamp": timestamp,
    "webhook-signature": "v1," + hmac(`${id}.${timestamp}.`, "base64"),
  };
}

/** Posts the pieces of a body, each in a chunk of its own, over a new connection, and resolves with the answer. */
export function post(url, headers, ...pieces) {
  return new Promise((resolve, reject) => {
    const outgoing = request(url, { method: "POST", headers, agent: false }, (response) => {
      const chunks = [];
      response.on("data", (chunk) => chunks.push(chunk));
      response.on("error", reject);
      response.on("end", () => resolve({ status: response.statusCode, headers: response.headers, text: Buffer.concat(chunks).toString() }));
    });
    outgoing.on("error", reject);
    for (const piece of pieces) {
      outgoing.write(piece);
    }
    outgoing.end();
  });
}

/** Cuts a body into pieces that end inside of characters. */
export function cut(body, size = 101) {
  const bytes = Buffer.from(body);
  return Array.from({ length: Math.ceil(bytes.length / size) }, (_, i) => bytes.subarray(i * size, (i + 1) * size));
}
