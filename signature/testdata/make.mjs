// Makes hex.json, standard.json and request.json with Node's crypto, so that no
// package is its own judge. Those of sdk/js are judged by them too. Run in this folder: node make.mjs
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

// Whole requests, as a Receiver takes them.

const delivery = "0197c9e4-7f3a-7000-8000-0123456789ab", hook = "0197c9e4-0000-7000-8000-0123456789ab", at = 1783468800;
const jsonType = "application/json", formType = "application/x-www-form-urlencoded";
const form = (payload) => "payload=" + encodeURIComponent(payload).replaceAll("%20", "+");
const room = '{"room":"1204","status":"ready"}';
const text1 = secret, text2 = "the secret to come";
// A request with the headers of one delivery. A header that is null is left out.
const request = (body, headers = {}, contentType = jsonType) => ({
  header: Object.fromEntries(Object.entries({
    "Content-Type": contentType, "X-Clubmed-Event": "room_status.updated", "X-Clubmed-Delivery": delivery, "X-Clubmed-Hook-ID": hook,
    "X-Clubmed-Attempt": "1", "X-Clubmed-Signature": hex(text1, body), "webhook-id": delivery, "webhook-timestamp": String(at),
    "webhook-signature": v1(text1, delivery, at, body), ...headers,
  }).filter(([, value]) => value !== null).map(([name, value]) => [name, [].concat(value)])),
  ...text(Buffer.from(body)),
});
const hexOnly = { "webhook-id": null, "webhook-timestamp": null, "webhook-signature": null };
const brought = (payload, extra = {}) => ({ id: delivery, event: "room_status.updated", webhook_id: hook, attempt: 1, payload, ...extra });
const taken = (name, request, delivery, extra = {}) => ({ name, secrets: [text1], ...request, now: at, want: "ok", delivery, ...extra });
const refused = (name, want, request, extra = {}) => ({ name, secrets: [text1], ...request, now: at, want, ...extra });
const acceptHex = { accept_hex: true };
const payloads = {
  "a payload": room,
  "marks of forms": '{"sum":"1+1=2 & 100%25;","url":"https://example.com/?a=b&payload=c#d"}',
  "white space and duplicate keys": '{ "a" : 1,\r\n\t"a" : 12345678901234567890 }\n',
  "text beyond ASCII": '{"resort":"Val d’Isère","note":"早安 🏝️","escaped":"\\u00e9\\ud83c\\udfdd"}',
  "half a surrogate, escaped": '"\\ud83c"',
  "U+0000, escaped, and U+2028": '"\\u0000\u2028"',
  "a number": "12345678901234567890",
  "null": "null",
};
const badPayloads = {
  "no JSON": '{"room":', "nothing": "", "white space": " ", "two values": "1 2", "a byte order mark": "\ufeff1", "a single quote": "'a'",
  "a control character": '"\u0001"', "not a number": "NaN", "a comma too many": "[1,]", "the text undefined": "undefined",
};
const requests = [
  ...Object.entries(payloads).flatMap(([name, payload]) => [
    taken(`${name}, as the body`, request(payload), brought(payload)),
    taken(`${name}, in a form`, request(form(payload), {}, formType), brought(payload)),
    taken(`${name}, in a form, by its hex signature`, request(form(payload), hexOnly, formType), brought(payload), acceptHex),
  ]),
  taken("a form with a parameter in its type", request(form(room), {}, formType + "; charset=utf-8"), brought(room)),
  taken("a form with a type in other letters", request(form(room), {}, "Application/X-WWW-Form-URLencoded ;charset=utf-8"), brought(room)),
  taken("a form with spaces as %20", request("payload=%20" + encodeURIComponent(room), {}, formType), brought(" " + room)),
  taken("a form that escapes what it need not", request("p%61yload=%31", {}, formType), brought("1")),
  taken("a form with another field", request("other=2&" + form(room), {}, formType), brought(room)),
  taken("a form with two payloads, the first", request("payload=1&payload=2", {}, formType), brought("1")),
  taken("a form with empty fields", request("&&payload=1&", {}, formType), brought("1")),
  taken("a body without a type", request(room, { "Content-Type": null }), brought(room)),
  taken("a body of another type", request(room, {}, "text/plain"), brought(room)),
  taken("nothing but Standard Webhooks", request(room, { "X-Clubmed-Event": null, "X-Clubmed-Delivery": null, "X-Clubmed-Hook-ID": null,
    "X-Clubmed-Attempt": null, "X-Clubmed-Signature": null }), { id: delivery, event: "", webhook_id: "", attempt: 0, payload: room }),
  taken("a tenth attempt", request(room, { "X-Clubmed-Attempt": "10" }), brought(room, { attempt: 10 })),
  taken("an attempt that is no number", request(room, { "X-Clubmed-Attempt": "-1" }), brought(room, { attempt: 0 })),
  taken("an attempt that is too large", request(room, { "X-Clubmed-Attempt": "2147483648" }), brought(room, { attempt: 0 })),
  taken("two names of the delivery, the signed one", request(room, { "X-Clubmed-Delivery": "another" }), brought(room)),
  taken("a hex signature that is wrong, beside a right one", request(room, { "X-Clubmed-Signature": hex(old, room) }), brought(room)),
  taken("both families, where hex is accepted", request(room), brought(room), acceptHex),
  taken("another brand", request(room, { "X-Clubmed-Event": null, "X-Acme-Event": "booking.created", "X-Acme-Hook-ID": "1", "X-Acme-Attempt": "2" }),
    { id: delivery, event: "booking.created", webhook_id: "1", attempt: 2, payload: room }, { brand: "Acme" }),
  taken("a public key alone", request(room, { "webhook-signature": v1a(otherPair, delivery, at, room) }), brought(room),
    { secrets: [], public_keys: [otherPair.public] }),
  // While a secret is rotated, the sender signs with both; the receiver has one of them, or both.
  ...[["the one before", [text1]], ["the new one", [text2]], ["both", [text2, text1]]].flatMap(([name, secrets]) => [
    taken(`both sign, trusted is ${name}`, request(room, { "X-Clubmed-Signature": hex(text2, room), "X-Clubmed-Signature-Previous": hex(text1, room),
      "webhook-signature": `${v1(text2, delivery, at, room)} ${v1(text1, delivery, at, room)}` }), brought(room), { secrets }),
    taken(`both sign, trusted is ${name}, hex`, request(form(room), { ...hexOnly, "X-Clubmed-Signature": hex(text2, form(room)),
      "X-Clubmed-Signature-Previous": hex(text1, form(room)) }, formType), brought(room), { secrets, ...acceptHex }),
  ]),
  taken("the one before signs, trusted are both", request(room), brought(room), { secrets: [text2, text1] }),
  taken("the one before signs, trusted are both, hex", request(room, hexOnly), brought(room), { secrets: [text2, text1], ...acceptHex }),
  refused("a third secret is trusted", "no match", request(room, { "X-Clubmed-Signature": hex(text2, room), "X-Clubmed-Signature-Previous": hex(text1, room),
    "webhook-signature": `${v1(text2, delivery, at, room)} ${v1(text1, delivery, at, room)}` }), { secrets: [old] }),
  refused("a third secret is trusted, hex", "no match", request(room, { ...hexOnly, "X-Clubmed-Signature": hex(text2, room),
    "X-Clubmed-Signature-Previous": hex(text1, room) }), { secrets: [old], ...acceptHex }),
  refused("a previous signature alone", "missing", request(room, { ...hexOnly, "X-Clubmed-Signature": null,
    "X-Clubmed-Signature-Previous": hex(text1, room) }), acceptHex),
  refused("a previous signature that is malformed", "malformed", request(room, { ...hexOnly, "X-Clubmed-Signature": hex(text2, room),
    "X-Clubmed-Signature-Previous": hex(text1, room).slice(7) }), acceptHex),
  refused("a previous signature that is empty", "missing", request(room, { ...hexOnly, "X-Clubmed-Signature": hex(text2, room),
    "X-Clubmed-Signature-Previous": "" }), acceptHex),
  refused("two previous signatures", "malformed", request(room, { ...hexOnly, "X-Clubmed-Signature": hex(text2, room),
    "X-Clubmed-Signature-Previous": [hex(text1, room), hex(old, room)] }), acceptHex),
  refused("a malformed signature and a right previous one", "malformed", request(room, { ...hexOnly, "X-Clubmed-Signature": "sha256=0",
    "X-Clubmed-Signature-Previous": hex(text1, room) }), acceptHex),
  // Which family judges.
  refused("a hex signature alone, not accepted", "missing", request(room, hexOnly)),
  refused("no signature", "missing", request(room, { ...hexOnly, "X-Clubmed-Signature": null })),
  refused("no signature, where hex is accepted", "missing", request(room, { ...hexOnly, "X-Clubmed-Signature": null }), acceptHex),
  refused("no header at all, where hex is accepted", "missing", { header: {}, body: room }, acceptHex),
  refused("hex right, Standard Webhooks wrong", "no match", request(room, { "webhook-signature": v1(old, delivery, at, room) }), acceptHex),
  refused("hex right, an hour old", "too old", request(room), { now: at + 3600, ...acceptHex }),
  refused("hex right, an hour ahead", "too new", request(room), { now: at - 3600, ...acceptHex }),
  ...["webhook-id", "webhook-timestamp", "webhook-signature"].flatMap((name) => [
    refused(`hex right, ${name} taken out`, "missing", request(room, { [name]: null }), acceptHex),
    refused(`hex right, ${name} alone`, "missing", request(room, { ...hexOnly, [name]: request(room).header[name] }), acceptHex),
    refused(`hex right, ${name} alone and empty`, "missing", request(room, { ...hexOnly, [name]: "" }), acceptHex),
  ]),
  refused("hex of another secret", "no match", request(room, { ...hexOnly, "X-Clubmed-Signature": hex(old, room) }), acceptHex),
  refused("two hex signatures", "malformed", request(room, { ...hexOnly, "X-Clubmed-Signature": [hex(text1, room), hex(text1, room)] }), acceptHex),
  refused("hex under another brand", "missing", request(room, hexOnly), { brand: "Acme", ...acceptHex }),
  refused("hex without a delivery", "missing", request(room, { ...hexOnly, "X-Clubmed-Delivery": null }), acceptHex),
  refused("hex with two deliveries", "malformed", request(room, { ...hexOnly, "X-Clubmed-Delivery": ["a", "b"] }), acceptHex),
  refused("hex with a delivery of 257 bytes", "malformed", request(room, { ...hexOnly, "X-Clubmed-Delivery": "d".repeat(257) }), acceptHex),
  refused("hex with a dot in its delivery", "malformed", request(room, { ...hexOnly, "X-Clubmed-Delivery": "a.b" }), acceptHex),
  // What was signed is the body as it is on the wire.
  refused("a form of which the payload alone is signed", "no match", { ...request(room, {}, formType), body: form(room) }),
  refused("a form of which the payload alone is signed, hex", "no match", { ...request(room, hexOnly, formType), body: form(room) }, acceptHex),
  refused("a form encoded in another way", "no match", { ...request("payload=+1", {}, formType), body: "payload=%201" }),
  refused("JSON written in another way", "no match", { ...request(room), body: JSON.stringify(JSON.parse(room), null, 1) }),
  refused("a line break more", "no match", { ...request(room), body: room + "\n" }),
  refused("a body taken away", "no match", { ...request(room), body: "" }),
  refused("no JSON, and not signed either", "no match", request("{", { "webhook-signature": v1(old, delivery, at, "{") })),
  // Signed, and yet no payload.
  ...Object.entries(badPayloads).flatMap(([name, payload]) => [
    refused(`${name}, as the body`, "no payload", request(payload)),
    refused(`${name}, in a form`, "no payload", request(form(payload), {}, formType)),
  ]),
  refused("bytes that are no text, as the body", "no payload", request(Buffer.from([0x22, 0xff, 0x22]))),
  refused("bytes that are no text, in a form", "no payload", request("payload=%22%FF%22", {}, formType)),
  refused("half a surrogate as bytes, in a form", "no payload", request("payload=%22%ED%A0%BC%22", {}, formType)),
  refused("a form without a payload", "no payload", request("load=1", {}, formType)),
  refused("a form with a payload in other letters", "no payload", request("Payload=1", {}, formType)),
  refused("a form with a name alone", "no payload", request("payload", {}, formType)),
  refused("a form with half an escape", "no payload", request("payload=1%2", {}, formType)),
  refused("a form with an escape that is none", "no payload", request("payload=1&other=%zz", {}, formType)),
  refused("a form with semicolons between", "no payload", request("other=2;payload=1", {}, formType)),
  refused("a form with a semicolon beside the payload", "no payload", request("payload=1&other=2;3", {}, formType)),
  refused("a form that is said to be JSON", "no payload", request(form(room))),
  refused("JSON that is said to be a form", "no payload", request(room, {}, formType)),
];
save("request.json", requests);
