// The adapters in real servers, each sent the same requests.
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { connect } from "node:net";
import { Readable } from "node:stream";
import { describe, test } from "node:test";
import { Receiver } from "@postrider/receiver";
import express from "express";
import fastify from "fastify";
import { cut, form, formType, headersOf, jsonType, post, secret } from "./sender.js";
import "./webcrypto.js";

const path = "/api/callback";

async function listen(t, server) {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  return `http://127.0.0.1:${server.address().port}${path}`;
}

/** Each starts a server and resolves with its URL. */
const adapters = {
  node: (t, receiver, handler) => listen(t, createServer(receiver.node(handler))),
  express: (t, receiver, handler) => {
    const app = express();
    app.post(path, receiver.express(handler));
    app.use(express.json()); // for the rest of the application
    app.use((error, request, response, next) => response.status(500).end());
    return listen(t, createServer(app));
  },
  "express after express.raw": (t, receiver, handler) => {
    const app = express();
    app.use(express.raw({ type: () => true, limit: "8mb" }));
    app.post(path, receiver.express(handler));
    app.use((error, request, response, next) => response.status(500).end());
    return listen(t, createServer(app));
  },
  fastify: async (t, receiver, handler) => {
    const app = fastify({ forceCloseConnections: true });
    app.post("/own", async (request) => request.body);
    app.register(receiver.fastify(path, handler));
    t.after(() => app.close());
    return (await app.listen({ port: 0, host: "127.0.0.1" })) + path;
  },
  fetch: (t, receiver, handler) => {
    const answer = receiver.fetch(handler);
    return listen(t, createServer(async (request, response) => {
      const headers = Object.entries(request.headers).map(([name, value]) => [name, String(value)]);
      // A request cut short is no end of the stream, and destroys it.
      const body = Readable.toWeb(request);
      const result = await answer(new Request(`http://127.0.0.1${path}`, { method: "POST", headers, body, duplex: "half" }))
        .catch(() => new Response(null, { status: 500 }));
      response.writeHead(result.status, Object.fromEntries(result.headers)).end(await result.text());
    }));
  },
};

const payloads = {
  "a small payload": '{"room":"1204","status":"ready"}',
  "marks of forms": '{"sum":"1+1=2 & 100%25;","url":"https://example.com/?a=b&payload=c#d"}',
  "300 kB beyond ASCII": `{"note":"${"é早🏝x".repeat(30_000)}"}`,
};

for (const [name, start] of Object.entries(adapters)) {
  describe(name, () => {
    test("hands on what is signed, in both content types and any pieces", async (t) => {
      const got = [];
      const url = await start(t, new Receiver({ secrets: [secret] }), async (delivery) => void got.push(delivery));
      for (const text of Object.values(payloads)) {
        for (const [contentType, body] of [[jsonType, text], [formType, form(text)]]) {
          for (const pieces of [[body], cut(body)]) {
            const answer = await post(url, headersOf(body, { contentType }), ...pieces);
            assert.equal(answer.status, 204, answer.text);
            assert.equal(answer.text, "");
            assert.deepEqual(got.pop(), {
              id: "msg_1", event: "room_status.updated", webhookId: "hook_1", attempt: 2, text, payload: JSON.parse(text),
            });
          }
        }
      }
      assert.equal(got.length, 0);
    });

    test("says why it refuses", async (t) => {
      const refused = [];
      let handled = 0;
      const receiver = new Receiver({ secrets: [secret], onRefused: (error) => refused.push(error.code) });
      const url = await start(t, receiver, () => void handled++);
      const body = '{"room":"1204"}';
      const good = headersOf(body);
      for (const [headers, sent, code, status, text] of [
        [{ "Content-Type": jsonType }, body, "missing", 401, "header missing: webhook-id\n"],
        [headersOf(body, { key: "another" }), body, "no_match", 401, "no signature matches\n"],
        [good, body + " ", "no_match", 401, "no signature matches\n"],
        [good, "", "no_match", 401, "no signature matches\n"],
        [{ ...good, "webhook-timestamp": "1614265330" }, body, "too_old", 401, "timestamp too old\n"],
        [{ ...good, "webhook-id": "a.b" }, body, "malformed", 401, "header malformed: webhook-id is longer than 256 bytes or holds a dot\n"],
        [headersOf("{"), "{", "no_payload", 400, "no JSON payload in the body\n"],
        [headersOf(""), "", "no_payload", 400, "no JSON payload in the body\n"],
        [{ ...good, "Content-Type": formType }, body, "no_payload", 400, "no JSON payload in the body\n"],
      ]) {
        const answer = await post(url, headers, sent);
        assert.deepEqual([answer.status, answer.text], [status, text]);
        assert.match(answer.headers["content-type"], /^text\/plain/);
        assert.equal(refused.pop(), code);
      }
      assert.equal(handled, 0);
      assert.equal(refused.length, 0);
    });

    test("refuses a header that stands twice", async (t) => {
      const refused = [];
      const receiver = new Receiver({ secrets: [secret], onRefused: (error) => refused.push(error.code) });
      const url = await start(t, receiver, () => {});
      const answer = await post(url, { ...headersOf("1"), "webhook-id": ["msg_1", "msg_2"] }, "1");
      assert.equal(answer.status, 401);
      assert.deepEqual(refused, [name === "fetch" ? "no_match" : "malformed"]); // fetch joins the two
    });

    test("reads as much as it may, and no more", async (t) => {
      let handled = 0;
      const url = await start(t, new Receiver({ secrets: [secret], maxBody: 8 }), () => void handled++);
      assert.equal((await post(url, headersOf('"123456"'), '"123456"')).status, 204);
      for (const pieces of [['"1234567"'], cut('"1234567"', 1), ['"', ..."x".repeat(1 << 20).match(/.{1,65536}/g), '"']]) {
        const answer = await post(url, headersOf(pieces.join("")), ...pieces).catch((error) => error);
        // Who sends on after the answer may find the connection cut.
        if (!["ECONNRESET", "EPIPE"].includes(answer.code)) {
          assert.equal(answer.status, 413);
        }
      }
      assert.equal(handled, 1);
      assert.equal((await post(url, headersOf("1"), "1")).status, 204, "it still listens");
    });

    test("survives a sender that goes away in the middle", { timeout: 20_000 }, async (t) => {
      let done;
      const refused = new Promise((resolve) => (done = resolve));
      const url = await start(t, new Receiver({ secrets: [secret], onRefused: (error) => done(error.code) }), () => {});
      const socket = connect(Number(new URL(url).port), "127.0.0.1");
      socket.on("error", () => {});
      socket.write(`POST ${path} HTTP/1.1\r\nHost: a\r\nContent-Type: ${jsonType}\r\nContent-Length: 100\r\n\r\n{"room"`, () => socket.destroy());
      // express.raw notices by itself.
      if (name !== "express after express.raw") {
        assert.equal(await refused, "cut_short");
      }
      assert.equal((await post(url, headersOf("1"), "1")).status, 204, "it still listens");
    });

    test("lets a delivery come again whose handler failed, and drops one that was handled", async (t) => {
      t.mock.method(console, "error", () => {});
      let handled = 0;
      const url = await start(t, new Receiver({ secrets: [secret], remember: 8 }), async () => {
        if (++handled === 1) {
          throw new Error("the database is away");
        }
      });
      for (const [status, times] of [[500, 1], [204, 2], [204, 2]]) {
        const answer = await post(url, headersOf("1"), "1");
        assert.deepEqual([answer.status, handled], [status, times]);
        assert.doesNotMatch(answer.text, /at .*\.js/, "the stack stays inside");
      }
    });
  });
}

test("express, after what parses bodies, says so to the application and not to the sender", async (t) => {
  const app = express();
  let told;
  app.use(express.json());
  app.post(path, new Receiver({ secrets: [secret] }).express(() => {}));
  app.use((error, request, response, next) => {
    told = error.code;
    response.status(error.status).end();
  });
  const url = await listen(t, createServer(app));
  assert.equal((await post(url, headersOf("[1]"), "[1]")).status, 500);
  assert.equal(told, "body_used");
  // express.json leaves forms alone.
  assert.equal((await post(url, headersOf(form("1"), { contentType: formType }), form("1"))).status, 204);
});

test("fetch says that the body was used before", async () => {
  const request = new Request("http://127.0.0.1/", { method: "POST", headers: headersOf("1"), body: "1" });
  await request.text();
  await assert.rejects(new Receiver({ secrets: [secret] }).fetch(() => {})(request), { code: "body_used", status: 500 });
});

test("fetch takes a request without a body", async () => {
  const request = new Request("http://127.0.0.1/", { method: "POST", headers: headersOf("") });
  const answer = await new Receiver({ secrets: [secret] }).fetch(() => {})(request);
  assert.deepEqual([answer.status, await answer.text()], [400, "no JSON payload in the body\n"]);
});

test("fastify keeps its own parsers outside of the plugin", async (t) => {
  const app = fastify();
  app.register(new Receiver({ secrets: [secret] }).fastify(path, () => {}));
  app.post("/own", async (request) => request.body);
  t.after(() => app.close());
  const answer = await app.inject({ method: "POST", url: "/own", payload: { a: 1 } });
  assert.deepEqual(answer.json(), { a: 1 });
});

test("express works behind a function's platform, which has read the body", async () => {
  const body = '{"room":"1204"}';
  const headers = Object.fromEntries(Object.entries(headersOf(body)).map(([name, value]) => [name.toLowerCase(), value]));
  const answer = await new Promise((resolve, reject) => {
    const response = { statusCode: 0, setHeader() {}, end: () => resolve(response.statusCode) };
    const request = { headers, body: JSON.parse(body), rawBody: Buffer.from(body), readableDidRead: true, on() {}, off() {} };
    new Receiver({ secrets: [secret] }).express(() => {})(request, response, reject);
  });
  assert.equal(answer, 204);
});
