// Is compiled and never run: what users write must fit the types of the package and of the frameworks.
import { createServer } from "node:http";
import { type Delivery, type ErrorCode, Receiver, ReceiverError, type ReceiverOptions, Verifier } from "@postrider/receiver";
import express from "express";
import fastify from "fastify";

const options: ReceiverOptions = {
  secrets: ["the new secret", "the old secret"],
  publicKeys: [],
  tolerance: 60,
  remember: 10_000,
  onRefused: (error: ReceiverError) => console.warn(error.code, error.status),
};
const receiver = new Receiver(options);

const handler = async (delivery: Delivery): Promise<void> => {
  const { room } = delivery.payload as { room: string };
  console.log(delivery.id, delivery.event, delivery.webhookId, delivery.attempt + 1, delivery.text.length, room);
};

const app = express();
app.post("/api/callback", receiver.express(handler));
app.post("/api/callback", receiver.express(({ id }) => console.log(id)));
express.Router().post("/", receiver.express(handler));

const server = fastify();
await server.register(receiver.fastify("/api/callback", handler));
await fastify({ logger: true }).register(receiver.fastify("/api/callback", handler), { prefix: "/v1" });

createServer(receiver.node(handler));

const answer: Response = await receiver.fetch(handler)(new Request("http://127.0.0.1/"));
console.log(answer.status);

try {
  await receiver.receive(new Headers(), new Uint8Array());
  await receiver.receive({ "webhook-id": "a", "set-cookie": ["a", "b"], host: undefined }, "text", new Date());
  await new Verifier({ secrets: ["a secret"] }).verifyHex("sha256=", Buffer.from(""));
} catch (error) {
  if (error instanceof ReceiverError) {
    const code: ErrorCode = error.code;
    console.log(code === "no_match");
  }
}

// @ts-expect-error the payload is not known before it is looked at
receiver.node((delivery) => delivery.payload.room);
// @ts-expect-error one secret is a list of one
new Receiver({ secret: "a secret" });
// @ts-expect-error there is no such code
new ReceiverError("wrong", "");
