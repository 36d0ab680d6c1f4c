import { createServer } from "node:http";
import { Receiver } from "@postrider/receiver";
import { save } from "./save.js"; // yours: writes to a table or a queue

const receiver = new Receiver({ secrets: [process.env.WEBHOOK_SECRET], remember: 10_000 });

const callback = receiver.node(async (delivery) => {
  await save(delivery);
});

const server = createServer((request, response) => {
  if (request.method === "POST" && request.url === "/api/callback") {
    callback(request, response);
  } else {
    response.writeHead(404).end();
  }
});
server.listen(Number(process.env.PORT ?? 4567), "127.0.0.1", () => {
  console.log(`http://127.0.0.1:${server.address().port}/api/callback`);
});
