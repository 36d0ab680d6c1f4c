import { Receiver } from "@postrider/receiver";
import { save } from "./save.js"; // yours: writes to a table or a queue

const receiver = new Receiver({ secrets: [process.env.WEBHOOK_SECRET], remember: 10_000 });

const callback = receiver.fetch(async (delivery) => {
  await save(delivery);
});

export default {
  async fetch(request) {
    const { pathname } = new URL(request.url);
    return request.method === "POST" && pathname === "/api/callback" ? callback(request) : new Response(null, { status: 404 });
  },
};
