// What the README shows is what runs: examples/ is sent to by the tests of the checkout.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

const read = (name) => readFileSync(new URL(`../${name}`, import.meta.url), "utf8");
const readme = read("README.md");

for (const name of ["express", "fastify", "fetch", "http"]) {
  test(`the README shows examples/${name}.js as it is`, () => {
    assert.ok(readme.includes("```js\n" + read(`examples/${name}.js`) + "```\n"));
  });
}

test("the README names every error code and every option", () => {
  const codes = [...read("dist/errors.d.ts").matchAll(/"([a-z_]+)"/g)].map(([, code]) => code);
  const members = (file, name) =>
    [...read(file).split(`interface ${name} `)[1].split("\n}")[0].matchAll(/^ {4}(\w+)\?:/gm)].map(([, option]) => option);
  const options = [...members("dist/receiver.d.ts", "ReceiverOptions"), ...members("dist/verifier.d.ts", "VerifierOptions")];
  assert.deepEqual([codes.length, options.length], [11, 8]);
  for (const name of [...codes, ...options]) {
    assert.ok(new RegExp(`^\\|.*\`${name}\`.*\\|`, "m").test(readme), `the README lacks ${name}`);
  }
});
