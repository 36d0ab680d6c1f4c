import { Receiver } from "@postrider/receiver";
import fastify from "fastify";
import { save } from "./save.js"; // yours: writes to a table or a queue

const receiver = new Receiver({ secrets: [process.env.WEBHOOK_SECRET], remember: 10_000 });

const app = fastify();
app.register(receiver.fastify("/api/callback", async (delivery) => {
  await save(delivery);
}));

console.log(`${await app.listen({ host: "127.0.0.1", port: Number(process.env.PORT ?? 4567) })}/api/callback`);
