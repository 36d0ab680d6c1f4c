// Serves a module that exports { fetch } on Node.js, as Bun, Deno and Cloudflare Workers do by themselves.
//
//   node serve.js MODULE
import { createServer } from "node:http";
import { Readable } from "node:stream";
import { pathToFileURL } from "node:url";

const { default: app } = await import(pathToFileURL(process.argv[2]));

const server = createServer(async (incoming, outgoing) => {
  const headers = new Headers();
  for (let i = 0; i < incoming.rawHeaders.length; i += 2) {
    headers.append(incoming.rawHeaders[i], incoming.rawHeaders[i + 1]);
  }
  const { method, url } = incoming;
  const body = method === "GET" || method === "HEAD" ? null : Readable.toWeb(incoming);
  try {
    const answer = await app.fetch(new Request(`http://127.0.0.1${url}`, { method, headers, body, duplex: "half" }));
    outgoing.writeHead(answer.status, Object.fromEntries(answer.headers)).end(Buffer.from(await answer.arrayBuffer()));
  } catch (error) {
    console.error(error);
    outgoing.writeHead(500).end();
  }
});
server.listen(Number(process.env.PORT), "127.0.0.1", () => {
  console.log(`http://127.0.0.1:${server.address().port}/api/callback`);
});
