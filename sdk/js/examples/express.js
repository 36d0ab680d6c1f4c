import { Receiver } from "@postrider/receiver";
import express from "express";
import { save } from "./save.js"; // yours: writes to a table or a queue

const receiver = new Receiver({ secrets: [process.env.WEBHOOK_SECRET], remember: 10_000 });

const app = express();
app.post("/api/callback", receiver.express(async (delivery) => {
  await save(delivery);
}));
app.use(express.json()); // after the receiver

const server = app.listen(Number(process.env.PORT ?? 4567), "127.0.0.1", () => {
  console.log(`http://127.0.0.1:${server.address().port}/api/callback`);
});
