// Makes hex.json and standard.json with Node's crypto, so that the package is
// not its own judge. Run in this folder: node make.mjs
import { createHmac, createPrivateKey, createPublicKey, sign } from "node:crypto";
import { writeFileSync } from "node:fs";

const text = (body) => (Buffer.from(body.toString()).equals(body) ? { body: body.toString() } : { body_base64: body.toString("base64") });
const save = (name, vectors) => writeFileSync(new URL(name, import.meta.url), JSON.stringify(vectors, null, 2) + "\n");

const bodies = {
  "an empty body": Buffer.from(""),
  "a body of JSON": Buffer.from('{"room":"1204","status":"ready"}'),
  "a body with spaces and a line break, kept as they are": Buffer.from('{ "a" : 1,\r\n\t"a" : 12345678901234567890 }\n'),
  "a body of text beyond ASCII": Buffer.from('{"resort":"Val d’Isère","note":"早安 🏝️"}'),
  "a form": Buffer.from("payload=%7B%22room%22%3A%221204%22%7D"),
  "bytes that are no UTF-8": Buffer.from([0x00, 0xff, 0xfe, 0x80, 0x0a]),
  "a body longer than a hash's block": Buffer.from(JSON.stringify({ text: "x".repeat(200) })),
};
const secrets = {
  "a whsec_ secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
  "a text secret": "correct horse battery staple",
  "a text secret beyond ASCII": "clé secrète ☂",
  "a secret longer than a hash's block": "s".repeat(100),
};

// The hex family.

const hex = (secret, body) => "sha256=" + createHmac("sha256", secret).update(body).digest("hex");
const hexSign = [
  { name: "RFC 4231, test case 2", secret: "Jefe", body: "what do ya want for nothing?", value: "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843" },
];
for (const [bodyName, body] of Object.entries(bodies)) {
  for (const [secretName, secret] of Object.entries(secrets)) {
    hexSign.push({ name: `${bodyName}, ${secretName}`, secret, ...text(body), value: hex(secret, body) });
  }
}

const body = '{"room":"1204","status":"ready"}';
const old = "the secret before", secret = "correct horse battery staple";
const good = hex(secret, body);
const flip = (s, at) => s.slice(0, at) + (s[at] === "0" ? "1" : "0") + s.slice(at + 1);
const hexCase = (name, want, value, extra = {}) => ({ name, secrets: [secret], body, value, want, ...extra });
const hexVerify = [
  hexCase("the right signature", "ok", good),
  hexCase("signed with the first of two secrets", "ok", good, { secrets: [secret, old] }),
  hexCase("signed with the second of two secrets", "ok", hex(old, body), { secrets: [secret, old] }),
  hexCase("another secret", "no match", hex(old, body)),
  hexCase("another body", "no match", hex(secret, body + " ")),
  hexCase("the first digit differs", "no match", flip(good, 7)),
  hexCase("the last digit differs", "no match", flip(good, good.length - 1)),
  hexCase("keyed with the decoded bytes of a whsec_ secret", "no match",
    hex(Buffer.from(secrets["a whsec_ secret"].slice(6), "base64"), body), { secrets: [secrets["a whsec_ secret"]] }),
  hexCase("no header", "missing", ""),
  hexCase("the prefix only", "malformed", "sha256="),
  hexCase("no prefix", "malformed", good.slice(7)),
  hexCase("another prefix", "malformed", "sha1=" + good.slice(7)),
  hexCase("cut by one digit", "malformed", good.slice(0, -1)),
  hexCase("one digit more", "malformed", good + "0"),
  hexCase("upper-case digits", "malformed", "sha256=" + good.slice(7).toUpperCase()),
  hexCase("an upper-case prefix", "malformed", "SHA256=" + good.slice(7)),
  hexCase("a space before", "malformed", " " + good),
  hexCase("a space after", "malformed", good + " "),
  hexCase("not hex", "malformed", "sha256=" + "z".repeat(64)),
  hexCase("base64 instead of hex", "malformed", "sha256=" + createHmac("sha256", secret).update(body).digest("base64")),
  hexCase("two signatures", "malformed", good + " " + good),
  hexCase("two signatures with a comma", "malformed", good + "," + good),
];
save("hex.json", { sign: hexSign, verify: hexVerify });

// Standard Webhooks.

const signed = (id, timestamp, body) => Buffer.concat([Buffer.from(`${id}.${timestamp}.`), Buffer.from(body)]);
const key = (secret) => (secret.startsWith("whsec_") ? Buffer.from(secret.slice(6), "base64") : Buffer.from(secret));
const v1 = (secret, id, timestamp, body) => "v1," + createHmac("sha256", key(secret)).update(signed(id, timestamp, body)).digest("base64");

const pair = (seed) => {
  const pkcs8 = Buffer.concat([Buffer.from("302e020100300506032b657004220420", "hex"), seed]);
  const object = createPrivateKey({ key: pkcs8, format: "der", type: "pkcs8" });
  const raw = createPublicKey(object).export({ format: "der", type: "spki" }).subarray(12);
  return { object, private: "whsk_" + Buffer.concat([seed, raw]).toString("base64"), public: "whpk_" + raw.toString("base64") };
};
const v1a = (pair, id, timestamp, body) => "v1a," + sign(null, signed(id, timestamp, body), pair.object).toString("base64");

const spec = { id: "msg_p5jXN8AQM9LWM0D4loKWxJek", timestamp: 1614265330, body: '{"test": 2432232314}' };
const specPair = pair(Buffer.from("6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbc=", "base64"));
const otherPair = pair(Buffer.alloc(32, 7));
const standardSign = [
  { name: "the v1 example of the specification", secret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", ...spec,
    entry: "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=" },
  { name: "the v1a example of the specification",
    private_key: "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==", ...spec,
    entry: "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==" },
];
for (const [bodyName, body] of Object.entries(bodies)) {
  const id = "0197c9e4-7f3a-7000-8000-0123456789ab", timestamp = 1783468800;
  for (const [secretName, secret] of Object.entries(secrets)) {
    standardSign.push({ name: `v1: ${bodyName}, ${secretName}`, secret, id, timestamp, ...text(body), entry: v1(secret, id, timestamp, body) });
  }
  standardSign.push({ name: `v1a: ${bodyName}`, private_key: otherPair.private, id, timestamp, ...text(body), entry: v1a(otherPair, id, timestamp, body) });
}
standardSign.push({ name: "v1: the epoch", secret, id: "a", timestamp: 0, body: "{}", entry: v1(secret, "a", 0, "{}") });

const whsec = secrets["a whsec_ secret"];
const right = v1(whsec, spec.id, spec.timestamp, spec.body);
const right1a = v1a(specPair, spec.id, spec.timestamp, spec.body);
const wrong = v1(old, spec.id, spec.timestamp, spec.body);
const wrong1a = v1a(otherPair, spec.id, spec.timestamp, spec.body);
const header = (signature, id = spec.id, timestamp = String(spec.timestamp)) =>
  Object.fromEntries(Object.entries({ "webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": signature })
    .filter(([, value]) => value !== null).map(([name, value]) => [name, [].concat(value)]));
const standardCase = (name, want, header, extra = {}) =>
  ({ name, secrets: [whsec], public_keys: [specPair.public], header, body: spec.body, now: spec.timestamp, want, ...extra });
const timed = (timestamp) => header(v1(whsec, spec.id, timestamp, spec.body), spec.id, String(timestamp));
const named = (id) => header(v1(whsec, id, spec.timestamp, spec.body), id);
const standardVerify = [
  // What is accepted.
  standardCase("v1 alone", "ok", header(right)),
  standardCase("v1a alone", "ok", header(right1a)),
  standardCase("v1 with no public key trusted", "ok", header(right), { public_keys: [] }),
  standardCase("v1a with no secret trusted", "ok", header(right1a), { secrets: [] }),
  standardCase("signed with the second of two secrets", "ok", header(right), { secrets: [old, whsec] }),
  standardCase("signed with the second of two key pairs", "ok", header(right1a), { public_keys: [otherPair.public, specPair.public] }),
  standardCase("wrong, unknown version, right, wrong", "ok", header(`${wrong} v2,${right.slice(3)} ${right} ${wrong}`)),
  standardCase("v1 wrong and v1a right", "ok", header(`${wrong} ${right1a}`)),
  standardCase("v1a wrong and v1 right", "ok", header(`${wrong1a} ${right}`)),
  standardCase("twenty signatures, the last one right", "ok", header(`${wrong} `.repeat(19) + right)),
  standardCase("an entry without a version before the right one", "ok", header(`v1 ${right}`)),
  standardCase("two spaces between", "ok", header(`${wrong}  ${right}`)),
  standardCase("exactly 300 s old", "ok", timed(spec.timestamp - 300)),
  standardCase("exactly 300 s ahead", "ok", timed(spec.timestamp + 300)),
  standardCase("an hour old, with a tolerance of an hour", "ok", timed(spec.timestamp - 3600), { tolerance_seconds: 3600 }),
  standardCase("an id of 256 bytes", "ok", named("m".repeat(256))),
  // Headers.
  standardCase("no webhook-id", "missing", header(right, null)),
  standardCase("no webhook-timestamp", "missing", header(right, spec.id, null)),
  standardCase("no webhook-signature", "missing", header(null)),
  standardCase("no header at all", "missing", {}),
  standardCase("an empty webhook-id", "missing", header(right, "")),
  standardCase("an empty webhook-timestamp", "missing", header(right, spec.id, "")),
  standardCase("an empty webhook-signature", "missing", header("")),
  standardCase("two webhook-id headers", "malformed", header(right, [spec.id, "msg_2"])),
  standardCase("two webhook-timestamp headers", "malformed", header(right, spec.id, [String(spec.timestamp), "1"])),
  standardCase("two webhook-signature headers", "malformed", header([wrong, right])),
  standardCase("an id of 257 bytes", "malformed", named("m".repeat(257))),
  standardCase("an id with a dot", "malformed", named("msg.1")),
  standardCase("a signed text cut in other places", "malformed",
    header(v1(whsec, "msg", 1614265330, "1614265331.5"), "msg.1614265330", "1614265331"), { body: "5" }),
  // Time.
  standardCase("301 s old", "too old", timed(spec.timestamp - 301)),
  standardCase("301 s ahead", "too new", timed(spec.timestamp + 301)),
  standardCase("11 s old, with a tolerance of 10 s", "too old", timed(spec.timestamp - 11), { tolerance_seconds: 10 }),
  standardCase("11 s ahead, with a tolerance of 10 s", "too new", timed(spec.timestamp + 11), { tolerance_seconds: 10 }),
  standardCase("the epoch", "too old", timed(0)),
  standardCase("the last second of 40 bits", "too new", timed(2 ** 40 - 1)),
  ...["soon", "1614265330.0", "1614265330 ", " 1614265330", "+1614265330", "-1614265330", "01614265330", "1_614_265_330",
    "0x60379ab2", "1.6e9", "１６１４２６５３３０", "2021-02-25T15:02:10Z", "1099511627776", "9223372036854775807", "99999999999999999999"]
    .map((timestamp) => standardCase(`the timestamp ${JSON.stringify(timestamp)}`, "bad timestamp", header(right, spec.id, timestamp))),
  // Signatures.
  standardCase("another secret", "no match", header(wrong)),
  standardCase("another key pair", "no match", header(wrong1a)),
  standardCase("another body", "no match", header(right), { body: '{"test":2432232314}' }),
  standardCase("another id", "no match", header(right, "msg_2")),
  standardCase("another timestamp", "no match", header(right, spec.id, String(spec.timestamp + 1))),
  standardCase("another body, v1a", "no match", header(right1a), { body: '{"test":2432232314}' }),
  standardCase("keyed with the text of a whsec_ secret", "no match",
    header("v1," + createHmac("sha256", whsec).update(signed(spec.id, spec.timestamp, spec.body)).digest("base64"))),
  standardCase("v1 named v1a", "no match", header("v1a," + right.slice(3))),
  standardCase("v1a named v1", "no match", header("v1," + right1a.slice(4))),
  standardCase("v1a that only a secret could check", "no match", header(right1a), { public_keys: [] }),
  standardCase("v1 that only a public key could check", "no match", header(right), { secrets: [] }),
  standardCase("an HMAC keyed with the public key", "no match",
    header("v1," + createHmac("sha256", Buffer.from(specPair.public.slice(5), "base64")).update(signed(spec.id, spec.timestamp, spec.body)).digest("base64"))),
  standardCase("an unknown version only", "no match", header("v2," + right.slice(3))),
  standardCase("an upper-case version", "no match", header("V1," + right.slice(3))),
  standardCase("cut by one character", "no match", header(right.slice(0, -1))),
  standardCase("cut to one character", "no match", header(right.slice(0, 4))),
  standardCase("one character more", "no match", header(right + "=")),
  standardCase("base64 for URLs", "no match", header(right.replaceAll("+", "-").replaceAll("/", "_"))),
  standardCase("other padding bits of the same bytes", "no match", header(right.slice(0, -2) + "F=")),
  standardCase("v1a cut by one character", "no match", header(right1a.slice(0, -1))),
  standardCase("v1a, other padding bits of the same bytes", "no match", header(right1a.slice(0, -3) + "h==")),
  standardCase("a second comma", "no match", header(right + "," + right.slice(3))),
  standardCase("an empty v1 beside an unknown version", "no match", header("v1, v2,abc")),
  standardCase("an empty v1", "malformed", header("v1,")),
  standardCase("a version only", "malformed", header("v1")),
  standardCase("a signature without a version", "malformed", header(right.slice(3))),
  standardCase("a comma only", "malformed", header(",")),
  standardCase("spaces only", "malformed", header("   ")),
  standardCase("twenty-one signatures, the last one right", "malformed", header(`${wrong} `.repeat(20) + right)),
];
save("standard.json", { sign: standardSign, verify: standardVerify });
