// A receiver of webhooks with Node.js and the Standard Webhooks library.
//
//   WEBHOOK_SECRET='the secret of the webhook' PORT=4567 node server.js

import { createHash } from "node:crypto";
import { createServer } from "node:http";
import { Webhook } from "standardwebhooks";

const secret = process.env.WEBHOOK_SECRET;
if (!secret) {
  console.error("receiver: WEBHOOK_SECRET is not set: without it anyone could send events");
  process.exit(1);
}
// The library decodes what follows whsec_. A secret of your own choice is the key
// as it stands, which the library calls raw.
const webhook = secret.startsWith("whsec_") ? new Webhook(secret) : new Webhook(Buffer.from(secret), { format: "raw" });

const maxBody = 4 * 1024 * 1024; // a form is up to three times as long as its payload
const maxSeen = 10_000;
const seen = new Set(); // the newest messages, oldest first

async function receive(request) {
  if (request.method !== "POST" || request.url !== "/api/callback") {
    return 404;
  }
  const body = await readBody(request);
  if (body === undefined) {
    return 413;
  }
  try {
    webhook.verify(body, request.headers, { jsonParse: false }); // the time as well as the signature
  } catch {
    return 401;
  }
  const id = request.headers["webhook-id"];
  if (!/^[A-Za-z0-9_-]{1,64}$/.test(id)) {
    return 400;
  }
  if (!seen.has(id)) {
    const payload = readPayload(request, body);
    if (payload === undefined) {
      return 400;
    }
    record(request.headers["x-clubmed-event"], id, payload);
    remember(id);
  }
  return 204;
}

// readBody gives the bytes of all chunks, or undefined when they are too many:
// it then reads on without keeping them, so that the answer can be sent.
async function readBody(request) {
  const chunks = [];
  let size = 0;
  for await (const chunk of request) {
    size += chunk.length;
    if (size <= maxBody) {
      chunks.push(chunk);
    }
  }
  return size <= maxBody ? Buffer.concat(chunks) : undefined;
}

// readPayload gives the bytes of the JSON, or undefined when there is none.
function readPayload(request, body) {
  const form = request.headers["content-type"]?.startsWith("application/x-www-form-urlencoded");
  const text = form ? (new URLSearchParams(body.toString()).get("payload") ?? "") : body.toString();
  try {
    JSON.parse(text);
  } catch {
    return undefined;
  }
  return Buffer.from(text);
}

// record stands for writing the event to your database or queue: soon done, and
// done before the answer, since after a 2xx the event is not sent again.
function record(event, delivery, payload) {
  const sha256 = createHash("sha256").update(payload).digest("hex");
  console.log(JSON.stringify({ event, delivery, bytes: payload.length, sha256 }));
}

function remember(id) {
  seen.add(id);
  if (seen.size > maxSeen) {
    seen.delete(seen.values().next().value);
  }
}

const server = createServer((request, response) => {
  receive(request).then(
    (status) => response.writeHead(status).end(),
    () => response.destroy(), // the sender went away in the middle
  );
});
server.listen(Number(process.env.PORT ?? 4567), "127.0.0.1", () => {
  console.log(JSON.stringify({ listening: `http://127.0.0.1:${server.address().port}/api/callback` }));
});
