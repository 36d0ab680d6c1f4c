// Node.js 18 has WebCrypto, and does not call it crypto yet.
import { webcrypto } from "node:crypto";

globalThis.crypto ??= webcrypto;
