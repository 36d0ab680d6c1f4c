import assert from "node:assert/strict";
import { test } from "node:test";
import * as taken from "#crypto";
import { Receiver, ReceiverError, Verifier } from "@postrider/receiver";
import * as node from "../dist/crypto-node.js";
import * as web from "../dist/crypto-web.js";
import { headersOf, secret } from "./sender.js";
import "./webcrypto.js";

test("the crypto is that of the runtime", () => {
  const want = process.env.NODE_OPTIONS?.includes("--conditions=workerd") ? web : node;
  assert.equal(taken.verifyHmac, want.verifyHmac);
});

const publicKey = "whpk_KIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvio=";

test("options that would accept nothing or anything are refused", () => {
  for (const options of [
    {},
    { secrets: [] },
    { secrets: [""] },
    { secrets: [secret, ""] },
    { secrets: [secret + "\n"] },
    { secrets: ["whsec_"] },
    { secrets: ["whsec_***"] },
    { secrets: ["whsec_MfKQ9r8"] },
    { publicKeys: [""] },
    { publicKeys: [publicKey.slice(5)] },
    { publicKeys: [publicKey.replace("whpk_", "whsk_")] },
    { publicKeys: ["whpk_AAAA"] },
    { publicKeys: [publicKey], acceptHex: true },
  ]) {
    assert.throws(() => new Receiver(options), (error) => {
      assert.ok(error instanceof ReceiverError && error instanceof Error);
      assert.deepEqual([error.code, error.status, error.name], ["bad_key", 500, "ReceiverError"]);
      for (const key of [...(options.secrets ?? []), ...(options.publicKeys ?? [])]) {
        assert.ok(key.length < 7 || !error.message.includes(key), `the error shows the key: ${error.message}`);
      }
      return true;
    });
  }
  for (const options of [
    { tolerance: 0 }, { tolerance: -1 }, { tolerance: Number.NaN }, { maxBody: 0 }, { maxBody: Number.NaN }, { remember: -1 },
    { remember: Number.NaN }, { brand: "Club Med" }, { brand: "" }, { brand: "Clubmed\n" },
  ]) {
    assert.throws(() => new Receiver({ secrets: [secret], ...options }), RangeError, JSON.stringify(options));
  }
  // What an environment variable gives that is not set.
  assert.throws(() => new Receiver({ secrets: [process.env.NO_SUCH_SECRET] }), { code: "bad_key" });
  assert.doesNotThrow(() => new Receiver({ publicKeys: [publicKey] }));
});

test("a verifier takes the body as bytes or as text", async () => {
  const verifier = new Verifier({ secrets: [secret] });
  const text = '{"note":"早安 🏝️"}';
  const headers = headersOf(text);
  for (const body of [text, Buffer.from(text), new TextEncoder().encode(text)]) {
    await verifier.verifyStandard(headers, body);
    await verifier.verifyHex(headers["X-Clubmed-Signature"], body);
  }
});

test("time is measured to the millisecond", async () => {
  const headers = headersOf("1");
  const at = Number(headers["webhook-timestamp"]) * 1000;
  const verifier = new Verifier({ secrets: [secret] });
  await verifier.verifyStandard(headers, "1", new Date(at + 300_000));
  await verifier.verifyStandard(headers, "1", new Date(at - 300_000));
  await assert.rejects(verifier.verifyStandard(headers, "1", new Date(at + 300_001)), { code: "too_old" });
  await assert.rejects(verifier.verifyStandard(headers, "1", new Date(at - 300_001)), { code: "too_new" });
});

/** Answers one delivery of this id through the part that all adapters share. */
const answer = (receiver, id, handler) => {
  const headers = headersOf("1", { id });
  return receiver.answer(headers, async () => Buffer.from("1"), handler);
};

test("the newest deliveries are remembered, and no more", async () => {
  const receiver = new Receiver({ secrets: [secret], remember: 2 });
  const handled = [];
  const handler = ({ id }) => void handled.push(id);
  for (const id of ["a", "a", "b", "a", "c", "b", "a"]) {
    assert.deepEqual(await answer(receiver, id, handler), { status: 204, text: "" });
  }
  assert.deepEqual(handled, ["a", "b", "c", "a"]); // at c, a was forgotten
});

test("nothing is remembered unless asked", async () => {
  const receiver = new Receiver({ secrets: [secret] });
  let handled = 0;
  await answer(receiver, "a", () => void handled++);
  await answer(receiver, "a", () => void handled++);
  assert.equal(handled, 2);
});

test("copies that come while the first is being handled wait for its answer, and one takes its place when it fails", async () => {
  const receiver = new Receiver({ secrets: [secret], remember: 8 });
  const ends = [];
  let running = 0;
  const handler = () => {
    assert.equal(++running, 1, "one at a time");
    return new Promise((resolve, reject) => ends.push({ resolve, reject })).finally(() => running--);
  };
  const answers = Array.from({ length: 8 }, () => answer(receiver, "a", handler).then((a) => a.status, (error) => error.message));
  const handling = async (count) => {
    while (ends.length < count) {
      await new Promise(setImmediate);
    }
    return ends[count - 1];
  };
  (await handling(1)).reject(new Error("away"));
  (await handling(2)).resolve();
  assert.deepEqual((await Promise.all(answers)).sort(), [204, 204, 204, 204, 204, 204, 204, "away"]);
  assert.equal(ends.length, 2);
});

test("a handler that throws at once is a handler that failed", async () => {
  const receiver = new Receiver({ secrets: [secret], remember: 8 });
  await assert.rejects(answer(receiver, "a", () => { throw new Error("away"); }), /away/);
  let handled = 0;
  await answer(receiver, "a", () => void handled++);
  assert.equal(handled, 1);
});
