// A receiver of webhooks with Node.js and Express.
//
//   WEBHOOK_SECRET='the secret of the webhook' PORT=4567 node server.js

import { createHash, createHmac, timingSafeEqual } from "node:crypto";
import express from "express";

const secret = process.env.WEBHOOK_SECRET;
if (!secret) {
  console.error("receiver: WEBHOOK_SECRET is not set: without it anyone could send events");
  process.exit(1);
}

const maxBody = 4 * 1024 * 1024; // a form is up to three times as long as its payload
const maxSeen = 10_000;
const seen = new Set(); // the newest deliveries, oldest first

const app = express();
app.disable("x-powered-by");

// The signature covers the bytes of the body as they came. express.raw waits for
// all chunks and gives one Buffer; express.json and express.urlencoded would
// leave only what they made of it.
const rawBody = express.raw({ type: () => true, limit: maxBody, inflate: false });

app.post("/api/callback", rawBody, (request, response) => {
  const body = request.body ?? Buffer.alloc(0);
  if (!isSigned(body, request.get("X-Clubmed-Signature"))) {
    return response.sendStatus(401);
  }
  const delivery = request.get("X-Clubmed-Delivery") ?? "";
  if (!/^[A-Za-z0-9_-]{1,64}$/.test(delivery)) {
    return response.sendStatus(400);
  }
  if (!seen.has(delivery)) {
    const payload = readPayload(request, body);
    if (payload === undefined) {
      return response.sendStatus(400);
    }
    record(request.get("X-Clubmed-Event"), delivery, payload);
    remember(delivery);
  }
  response.sendStatus(204);
});

// Errors of express.raw carry their status, such as 413.
app.use((error, request, response, next) => response.sendStatus(error.status ?? 500));

function isSigned(body, header = "") {
  const expected = Buffer.from("sha256=" + createHmac("sha256", secret).update(body).digest("hex"));
  const given = Buffer.from(header);
  // timingSafeEqual takes the same time wherever the two differ; it throws when
  // they differ in length, which is no secret.
  return given.length === expected.length && timingSafeEqual(given, expected);
}

// readPayload gives the bytes of the JSON, or undefined when there is none.
function readPayload(request, body) {
  const form = request.is("application/x-www-form-urlencoded");
  const text = form ? (new URLSearchParams(body.toString()).get("payload") ?? "") : body.toString();
  try {
    JSON.parse(text);
  } catch {
    return undefined;
  }
  return Buffer.from(text);
}

// record stands for writing the event to your database or queue: soon done, and
// done before the answer, since after a 2xx the event is not sent again. The work
// that follows from the event belongs behind that queue, not here.
function record(event, delivery, payload) {
  const sha256 = createHash("sha256").update(payload).digest("hex");
  console.log(JSON.stringify({ event, delivery, bytes: payload.length, sha256 }));
}

// remember lets a delivery that is sent again be answered without being recorded
// again.
function remember(delivery) {
  seen.add(delivery);
  if (seen.size > maxSeen) {
    seen.delete(seen.values().next().value);
  }
}

const server = app.listen(Number(process.env.PORT ?? 4567), "127.0.0.1", (error) => {
  if (error) {
    throw error;
  }
  console.log(JSON.stringify({ listening: `http://127.0.0.1:${server.address().port}/api/callback` }));
});
