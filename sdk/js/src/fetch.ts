import { join } from "./bytes.js";
import { bodyUsed, cutShort, tooLarge } from "./node.js";
import type { Handler, Receiver } from "./receiver.js";

export type FetchListener = (request: Request) => Promise<Response>;

export function fetchListener(receiver: Receiver, handler: Handler): FetchListener {
  return async (request) => {
    const { status, text } = await receiver.answer(request.headers, () => readBody(request, receiver.maxBody), handler);
    return new Response(text || null, { status, headers: text === "" ? {} : { "content-type": "text/plain; charset=utf-8" } });
  };
}

async function readBody(request: Request, maxBody: number): Promise<Uint8Array> {
  if (request.bodyUsed) {
    throw bodyUsed();
  }
  const reader = request.body?.getReader();
  const chunks: Uint8Array[] = [];
  for (let size = 0; reader !== undefined; ) {
    const { done, value } = await reader.read().catch(() => {
      throw cutShort();
    });
    if (done) {
      break;
    }
    size += value.length;
    if (size > maxBody) {
      reader.cancel().catch(() => {}); // the sender may be gone
      throw tooLarge(maxBody);
    }
    chunks.push(value);
  }
  return join(chunks);
}
