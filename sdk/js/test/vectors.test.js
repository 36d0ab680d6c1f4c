// The vectors that judge the Go package judge this one.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, test } from "node:test";
import { Receiver, ReceiverError, Verifier } from "@postrider/receiver";
import "./webcrypto.js";

const read = (name) => JSON.parse(readFileSync(new URL(`../../../signature/testdata/${name}`, import.meta.url), "utf8"));
const hex = read("hex.json");
const standard = read("standard.json");
const requests = read("request.json");

const bodyOf = (vector) => (vector.body_base64 === undefined ? Buffer.from(vector.body) : Buffer.from(vector.body_base64, "base64"));
const at = (seconds) => new Date(seconds * 1000);
const optionsOf = (vector) => ({
  secrets: vector.secrets,
  ...(vector.public_keys && { publicKeys: vector.public_keys }),
  ...(vector.tolerance_seconds && { tolerance: vector.tolerance_seconds }),
  ...(vector.accept_hex && { acceptHex: true }),
  ...(vector.brand && { brand: vector.brand }),
});

/** Wants a promise to end as a vector says, and resolves with its value. */
async function judge(promise, want) {
  if (want === "ok") {
    return promise;
  }
  await assert.rejects(promise, (error) => error instanceof ReceiverError && error.code === want.replace(" ", "_"));
}

const publicOf = (privateKey) => "whpk_" + Buffer.from(privateKey.slice("whsk_".length), "base64").subarray(32).toString("base64");

describe("hex.json", () => {
  for (const vector of hex.sign) {
    test(`accepts: ${vector.name}`, () => new Verifier({ secrets: [vector.secret] }).verifyHex(vector.value, bodyOf(vector)));
  }
  for (const vector of hex.verify) {
    test(vector.name, () => judge(new Verifier(optionsOf(vector)).verifyHex(vector.value, bodyOf(vector)), vector.want));
  }
});

describe("standard.json", () => {
  for (const vector of standard.sign) {
    test(`accepts: ${vector.name}`, () => {
      const keys = vector.private_key ? { publicKeys: [publicOf(vector.private_key)] } : { secrets: [vector.secret] };
      const headers = { "webhook-id": vector.id, "webhook-timestamp": String(vector.timestamp), "webhook-signature": vector.entry };
      return new Verifier(keys).verifyStandard(headers, bodyOf(vector), at(vector.timestamp));
    });
  }
  for (const vector of standard.verify) {
    test(vector.name, () => judge(new Verifier(optionsOf(vector)).verifyStandard(vector.header, bodyOf(vector), at(vector.now)), vector.want));
  }
});

describe("request.json", () => {
  const delivered = (delivery, want) =>
    assert.deepEqual(delivery, {
      id: want.id, event: want.event, webhookId: want.webhook_id, attempt: want.attempt, text: want.payload, payload: JSON.parse(want.payload),
    });
  for (const vector of requests) {
    test(vector.name, async () => {
      const delivery = await judge(new Receiver(optionsOf(vector)).receive(vector.header, bodyOf(vector), at(vector.now)), vector.want);
      if (vector.want === "ok") {
        delivered(delivery, vector.delivery);
      }
    });
    // Headers as fetch has them: one value for a name.
    if (Object.values(vector.header).every((values) => values.length === 1)) {
      test(`${vector.name}, with fetch's headers`, async () => {
        const headers = new Headers(Object.entries(vector.header).map(([name, [value]]) => [name, value]));
        const delivery = await judge(new Receiver(optionsOf(vector)).receive(headers, bodyOf(vector), at(vector.now)), vector.want);
        if (vector.want === "ok") {
          delivered(delivery, vector.delivery);
        }
      });
    }
  }
});

test("there are more than twenty vectors of each kind", () => {
  const counts = [hex.sign, hex.verify, standard.sign, standard.verify, requests].map((vectors) => vectors.length);
  assert.ok(counts.every((count) => count > 20), `got ${counts}`);
});
