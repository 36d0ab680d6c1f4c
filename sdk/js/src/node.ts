import { join } from "./bytes.js";
import { ReceiverError } from "./errors.js";
import type { Answer, Handler, Receiver } from "./receiver.js";

/** As much of `http.IncomingMessage`, and of what frameworks add to it, as a receiver uses. */
export interface NodeRequest {
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly headersDistinct?: Readonly<Record<string, string[] | undefined>>;
  readonly readableDidRead?: boolean;
  on(event: string, listener: (...args: any[]) => void): unknown;
  off(event: string, listener: (...args: any[]) => void): unknown;
}

/** As much of `http.ServerResponse` as a receiver uses. */
export interface NodeResponse {
  statusCode: number;
  setHeader(name: string, value: string): unknown;
  end(text?: string): unknown;
}

export type NodeListener = (request: NodeRequest, response: NodeResponse) => void;
export type ExpressMiddleware = (request: NodeRequest, response: NodeResponse, next: (error?: unknown) => void) => void;

export function expressMiddleware(receiver: Receiver, handler: Handler): ExpressMiddleware {
  return (request, response, next) => {
    answerNode(receiver, request, handler).then((answer) => write(response, answer), next);
  };
}

export function nodeListener(receiver: Receiver, handler: Handler): NodeListener {
  return (request, response) => {
    answerNode(receiver, request, handler).then(
      (answer) => write(response, answer),
      (error) => {
        console.error(error);
        write(response, { status: 500, text: "" });
      },
    );
  };
}

/** Node.js joins headers of one name, unless asked for them one by one. */
export const answerNode = (receiver: Receiver, request: NodeRequest, handler: Handler): Promise<Answer> =>
  receiver.answer(request.headersDistinct ?? request.headers, () => readBody(request, receiver.maxBody), handler);

/** The headers of an answer. After a 413 the rest of the body is still on its way, so no other request can follow it. */
export const answerHeaders = (answer: Answer): Record<string, string> => ({
  ...(answer.text === "" ? {} : { "content-type": "text/plain; charset=utf-8" }),
  ...(answer.status === 413 ? { connection: "close" } : {}),
});

function write(response: NodeResponse, answer: Answer): void {
  response.statusCode = answer.status;
  for (const [name, value] of Object.entries(answerHeaders(answer))) {
    response.setHeader(name, value);
  }
  response.end(answer.text);
}

async function readBody(request: NodeRequest, maxBody: number): Promise<Uint8Array> {
  // express.raw() leaves the bytes in body, and clouds that run functions leave them in rawBody.
  const { rawBody, body } = request as { rawBody?: unknown; body?: unknown };
  const bytes = [rawBody, body].find((value) => value instanceof Uint8Array);
  if (bytes !== undefined) {
    if (bytes.length > maxBody) {
      throw tooLarge(maxBody);
    }
    return bytes;
  }
  if (request.readableDidRead) {
    throw bodyUsed();
  }
  return collect(request, maxBody);
}

/** Joins all chunks as bytes: one may end inside a character. */
function collect(request: NodeRequest, maxBody: number): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    const chunks: Uint8Array[] = [];
    let size = 0;
    const onData = (chunk: Uint8Array) => {
      size += chunk.length;
      if (size > maxBody) {
        request.off("data", onData); // the rest flows past
        reject(tooLarge(maxBody));
        return;
      }
      chunks.push(chunk);
    };
    const onCut = () => reject(cutShort());
    request.on("data", onData);
    request.on("end", () => resolve(join(chunks)));
    request.on("error", onCut);
    request.on("close", onCut); // says nothing new after the end
  });
}

export const tooLarge = (maxBody: number) => new ReceiverError("too_large", `body longer than ${maxBody} bytes`);

export const cutShort = () => new ReceiverError("cut_short", "body cut short");

export const bodyUsed = () =>
  new ReceiverError("body_used", "the body has been read before the receiver came to it: put the receiver before what parses bodies");
