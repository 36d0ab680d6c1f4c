import { createHash } from "node:crypto";

/** Stands for writing the delivery to your database or queue, which is done before the answer. */
export async function save({ event, id, text }) {
  const sha256 = createHash("sha256").update(text).digest("hex");
  console.log(JSON.stringify({ event, delivery: id, bytes: Buffer.byteLength(text), sha256 }));
}
