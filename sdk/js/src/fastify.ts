import { answerHeaders, answerNode, type NodeRequest } from "./node.js";
import type { Handler, Receiver } from "./receiver.js";

/** As much of `FastifyInstance` as a receiver uses. */
export interface FastifyLike {
  removeAllContentTypeParsers(): void;
  addContentTypeParser(type: string, parser: (request: any, payload: any, done: (error: null) => void) => void): unknown;
  post(path: string, handler: (request: any, reply: any) => Promise<unknown>): unknown;
}

export type FastifyPlugin = (app: FastifyLike) => Promise<void>;

/** As much of `FastifyRequest` and `FastifyReply` as a receiver uses. */
type Request = { raw: NodeRequest };
type Reply = { code(status: number): Reply; headers(headers: Record<string, string>): Reply; send(text?: string): Reply };

export function fastifyPlugin(receiver: Receiver, path: string, handler: Handler): FastifyPlugin {
  // A plugin has a context of its own, which is all that loses its parsers.
  return async (app) => {
    app.removeAllContentTypeParsers();
    app.addContentTypeParser("*", (_request, _payload, done) => done(null)); // leaves the body unread
    app.post(path, async (request: Request, reply: Reply) => {
      const answer = await answerNode(receiver, request.raw, handler);
      return reply.code(answer.status).headers(answerHeaders(answer)).send(answer.text || undefined);
    });
  };
}
