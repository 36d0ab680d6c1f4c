/**
 * Receives webhooks: verifies their signatures, takes out their payload, drops what comes again.
 *
 * @packageDocumentation
 */
export { type ErrorCode, ReceiverError } from "./errors.js";
export type { FastifyLike, FastifyPlugin } from "./fastify.js";
export type { FetchListener } from "./fetch.js";
export type { HeaderSource } from "./headers.js";
export type { ExpressMiddleware, NodeListener, NodeRequest, NodeResponse } from "./node.js";
export { type Answer, type Delivery, type Handler, Receiver, type ReceiverOptions } from "./receiver.js";
export { Verifier, type VerifierOptions } from "./verifier.js";
