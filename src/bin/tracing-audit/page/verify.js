"use strict";
// Verifies the entries in this page, shows them, and says what was checked. It asks no network: the policy of the page forbids it.
//
// This first part computes: SHA-256, leaves, paths, signatures, the lines of the bundle. It knows no page, so other programs can run it.
// The second part shows.

// ---- Bytes ----

/** A sentence that says what does not hold. */
class Refused extends Error {}

function need(truth, why) {
  if (!truth) throw new Refused(why);
}

const DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const VALUE_OF_DIGIT = new Int8Array(128).fill(-1);
for (let i = 0; i < 64; i++) VALUE_OF_DIGIT[DIGITS.charCodeAt(i)] = i;

/** The bytes of a text in base64, which has one spelling only. */
function unbase64(text, length) {
  need(typeof text === "string" && text.length % 4 === 0, "something is not in base64");
  const padding = text.endsWith("==") ? 2 : text.endsWith("=") ? 1 : 0;
  const bytes = new Uint8Array((text.length / 4) * 3 - padding);
  let at = 0, bits = 0, have = 0;
  for (let i = 0; i < text.length - padding; i++) {
    const value = VALUE_OF_DIGIT[text.charCodeAt(i)];
    need(value >= 0, "something is not in base64");
    bits = (bits << 6) | value;
    have += 6;
    if (have >= 8) {
      have -= 8;
      bytes[at++] = bits >> have;
      bits &= (1 << have) - 1;
    }
  }
  need(bits === 0, "something is not in base64");
  need(length === undefined || bytes.length === length, "a hash, a salt or a key has a wrong length");
  return bytes;
}

function base64(bytes) {
  let text = "";
  for (let i = 0; i < bytes.length; i += 3) {
    const three = (bytes[i] << 16) | ((bytes[i + 1] ?? 0) << 8) | (bytes[i + 2] ?? 0);
    const left = bytes.length - i;
    text += DIGITS[three >> 18] + DIGITS[(three >> 12) & 63];
    text += (left > 1 ? DIGITS[(three >> 6) & 63] : "=") + (left > 2 ? DIGITS[three & 63] : "=");
  }
  return text;
}

function hex(bytes) {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function equal(one, other) {
  return one.length === other.length && one.every((byte, i) => byte === other[i]);
}

function concat(...parts) {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

function utf8(text) {
  return new TextEncoder().encode(text);
}

const STRICT = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

function text(bytes) {
  try {
    return STRICT.decode(bytes);
  } catch {
    throw new Refused("a text is not UTF-8");
  }
}

// ---- SHA-256 (FIPS 180-4) ----
// The browser has one too. It answers later, by a promise, which takes too long for some forty hashes an entry. Before anything is
// verified, the two are held against each other.

const ROUNDS = Int32Array.of(
  0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
  0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
  0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
  0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
  0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
  0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
  0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
  0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
);
const START = Int32Array.of(
  0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
);
const SCHEDULE = new Int32Array(64);

function compress(state, bytes, at) {
  const w = SCHEDULE;
  for (let i = 0; i < 16; i++, at += 4) {
    w[i] = (bytes[at] << 24) | (bytes[at + 1] << 16) | (bytes[at + 2] << 8) | bytes[at + 3];
  }
  for (let i = 16; i < 64; i++) {
    const x = w[i - 15], y = w[i - 2];
    const s0 = ((x >>> 7) | (x << 25)) ^ ((x >>> 18) | (x << 14)) ^ (x >>> 3);
    const s1 = ((y >>> 17) | (y << 15)) ^ ((y >>> 19) | (y << 13)) ^ (y >>> 10);
    w[i] = (w[i - 16] + s0 + w[i - 7] + s1) | 0;
  }
  let a = state[0], b = state[1], c = state[2], d = state[3], e = state[4], f = state[5], g = state[6], h = state[7];
  for (let i = 0; i < 64; i++) {
    const s1 = ((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7));
    const one = (h + s1 + ((e & f) ^ (~e & g)) + ROUNDS[i] + w[i]) | 0;
    const s0 = ((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10));
    const two = (s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
    h = g;
    g = f;
    f = e;
    e = (d + one) | 0;
    d = c;
    c = b;
    b = a;
    a = (one + two) | 0;
  }
  state[0] += a;
  state[1] += b;
  state[2] += c;
  state[3] += d;
  state[4] += e;
  state[5] += f;
  state[6] += g;
  state[7] += h;
}

/** Hashes bytes that come one after the other. */
class Sha256 {
  constructor() {
    this.state = Int32Array.from(START);
    this.rest = new Uint8Array(64);
    this.length = 0;
  }

  update(bytes) {
    const filled = this.length % 64;
    this.length += bytes.length;
    let at = 0;
    if (filled > 0) {
      at = Math.min(64 - filled, bytes.length);
      this.rest.set(bytes.subarray(0, at), filled);
      if (filled + at < 64) return this;
      compress(this.state, this.rest, 0);
    }
    for (; at + 64 <= bytes.length; at += 64) compress(this.state, bytes, at);
    this.rest.set(bytes.subarray(at));
    return this;
  }

  digest() {
    const filled = this.length % 64;
    const tail = new Uint8Array(filled < 56 ? 64 : 128);
    tail.set(this.rest.subarray(0, filled));
    tail[filled] = 0x80;
    const bits = new DataView(tail.buffer);
    bits.setUint32(tail.length - 8, Math.floor(this.length / 0x20000000));
    bits.setUint32(tail.length - 4, (this.length % 0x20000000) * 8);
    for (let at = 0; at < tail.length; at += 64) compress(this.state, tail, at);
    const digest = new DataView(new ArrayBuffer(32));
    this.state.forEach((word, i) => digest.setInt32(i * 4, word));
    return new Uint8Array(digest.buffer);
  }
}

function sha256(bytes) {
  return new Sha256().update(bytes).digest();
}

/** Whether the browser's SHA-256 agrees, for messages around the length of a block. Null if it has none. */
async function agreesWithBrowser() {
  if (globalThis.crypto?.subtle === undefined) return null;
  const message = Uint8Array.from({ length: 200 }, (_, i) => (i * 7) & 255);
  for (const length of [0, 1, 34, 55, 56, 63, 64, 65, 119, 120, 128, 200]) {
    const bytes = message.slice(0, length);
    if (!equal(new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)), sha256(bytes))) return false;
  }
  return true;
}

// ---- Leaves and the tree (RFC 6962, RFC 9162) ----

const LABEL = utf8("tracing-audit/entry@v1\n");
const CORE = 1, SESSION = 2, AGENT = 3, RESOURCE = 4, REASON = 5, PROBLEMS = 6, METADATA = 7, MEMBER = 8;

/** The value of a part that is withheld or erased. A part that the entry does not have is null. */
const WITHHELD = Symbol("withheld");

function node(left, right) {
  const message = new Uint8Array(65);
  message[0] = 1;
  message.set(left, 1);
  message.set(right, 33);
  return sha256(message);
}

/** The fields of a line: tag, and salt with value, or the commitment alone. */
function fieldsOf(items) {
  need(Array.isArray(items), "it has no list of fields");
  return items.map((item) => {
    need(Array.isArray(item) && (item.length === 2 || item.length === 3), "a field does not have two or three parts");
    const tag = item[0];
    need(Number.isInteger(tag) && tag >= CORE && tag <= MEMBER, "a field is of an unknown kind");
    if (item.length === 2) return { tag, commitment: unbase64(item[1], 32), value: WITHHELD };
    const salt = unbase64(item[1], 16), value = unbase64(item[2]);
    return { tag, commitment: sha256(concat(Uint8Array.of(2, tag), salt, value)), value };
  });
}

function leafOf(fields) {
  const data = new Uint8Array(1 + LABEL.length + 33 * fields.length);
  data.set(LABEL, 1);
  let at = 1 + LABEL.length;
  for (const field of fields) {
    data[at] = field.tag;
    data.set(field.commitment, at + 1);
    at += 33;
  }
  return sha256(data);
}

/** Whether a leaf is in the tree with this root: RFC 9162, section 2.1.3.2. */
function isIncluded(leaf, index, size, path, root) {
  if (!(index < size)) return false;
  let at = index, last = size - 1, found = leaf;
  for (const beside of path) {
    if (last === 0) return false;
    if (at % 2 === 1 || at === last) {
      found = node(beside, found);
      while (at % 2 === 0 && at !== 0) {
        at /= 2;
        last = Math.floor(last / 2);
      }
    } else {
      found = node(found, beside);
    }
    at = Math.floor(at / 2);
    last = Math.floor(last / 2);
  }
  return last === 0 && equal(found, root);
}

// ---- Values ----

function uuid(bytes) {
  need(bytes.length === 16, "an id does not have 16 bytes");
  return hex(bytes).replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

/** A time in microseconds since 1970. One that no calendar has stays a number. */
function time(micros) {
  const seconds = micros / 1000000n - (micros % 1000000n < 0n ? 1n : 0n);
  const date = new Date(Number(seconds) * 1000);
  if (Number.isNaN(date.getTime())) return `${micros} µs since 1970`;
  const fraction = String(micros - seconds * 1000000n).padStart(6, "0");
  return date.toISOString().replace("T", " ").replace(/\.000Z$/, `.${fraction} UTC`);
}

function coreOf(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const wrong = "its core has another form than a writer gives it";
  need(bytes.length >= 73, wrong);
  let at = 73, risk = null;
  need(bytes[72] <= 1 && bytes.length >= at + bytes[72] * 8, wrong);
  if (bytes[72] === 1) {
    risk = view.getFloat64(at);
    at += 8;
  }
  const texts = [0, 1, 2].map(() => {
    need(at + 4 <= bytes.length, wrong);
    const length = view.getUint32(at);
    at += 4 + length;
    need(at <= bytes.length, wrong);
    return text(bytes.subarray(at - length, at));
  });
  need(at === bytes.length, wrong);
  return {
    id: uuid(bytes.subarray(0, 16)),
    ts: view.getBigInt64(16),
    committedAt: view.getBigInt64(24),
    writer: uuid(bytes.subarray(32, 48)),
    position: view.getBigUint64(48),
    workspace: uuid(bytes.subarray(56, 72)),
    risk,
    action: texts[0],
    resource: texts[1],
    decision: texts[2],
  };
}

/** What an entry shows: nothing but what its fields hold. */
function entryOf(seq, fields) {
  const entry = {
    seq, core: null, session: null, agent: null, resourceId: null, reason: null, problems: null, metadata: null, hiddenMembers: 0,
  };
  const members = [];
  let last = 0;
  const shown = (value, read) => (value === WITHHELD ? WITHHELD : read(value));
  for (const { tag, value } of fields) {
    const follows = last === 0 ? tag === CORE : last === MEMBER ? tag === MEMBER : last !== METADATA && tag > last;
    need(follows, "its fields are not those of an entry in their order");
    last = tag;
    if (tag === CORE) entry.core = shown(value, coreOf);
    else if (tag === SESSION) entry.session = shown(value, uuid);
    else if (tag === AGENT) entry.agent = shown(value, uuid);
    else if (tag === RESOURCE) entry.resourceId = shown(value, text);
    else if (tag === REASON) entry.reason = shown(value, text);
    else if (tag === PROBLEMS) entry.problems = shown(value, text);
    else if (tag === METADATA) entry.metadata = shown(value, text);
    else if (value === WITHHELD) entry.hiddenMembers += 1;
    else members.push(text(value));
  }
  if (entry.core !== null && last !== METADATA) {
    entry.metadata = members.length === 0 && entry.hiddenMembers > 0 ? WITHHELD : `{${members.join(",")}}`;
  }
  return entry;
}

// ---- Checkpoints and their signatures (C2SP) ----

/** Reads the three lines of a checkpoint, and the lines of its signatures. */
function checkpointOf(note) {
  const [head, ...more] = note.split("\n\n");
  const lines = head.replace(/\n$/, "").split("\n");
  need(lines.length === 3 && more.length <= 1, "its checkpoint does not have three lines");
  const [origin, number, root] = lines;
  const isName = origin !== "" && !/[\s\p{Cc}+]/u.test(origin) && !origin.startsWith("tracing-audit/");
  need(isName, "its checkpoint has no name of a ledger");
  const size = Number(number);
  need(String(size) === number && Number.isSafeInteger(size) && size >= 0, "its checkpoint has no size");
  const signatures = more.length === 0 ? [] : more[0].replace(/\n$/, "").split("\n").map(signatureOf);
  return { origin, size, root: unbase64(root, 32), rootText: root, text: `${lines.join("\n")}\n`, signatures };
}

function signatureOf(line) {
  const parts = /^— ([^\s+]+) (\S+)$/u.exec(line);
  need(parts !== null, "its checkpoint has a line that is no signature");
  const bytes = unbase64(parts[2]);
  need(bytes.length > 4, "its checkpoint has a signature that is cut off");
  return { name: parts[1], id: hex(bytes.subarray(0, 4)), bytes: bytes.subarray(4) };
}

/** A verifier key, such as `example.com/a+0cde8dab+AQ..`. */
function keyOf(word) {
  const parts = /^([^\s+]+)\+([0-9a-f]{8})\+(\S+)$/.exec(word);
  need(parts !== null, "it is no key");
  const typed = unbase64(parts[3], 33);
  const id = hex(sha256(concat(utf8(`${parts[1]}\n`), typed)).subarray(0, 4));
  need(id === parts[2], `the key ${parts[1]}+${parts[2]} was changed: its id does not fit`);
  need(typed[0] === 1 || typed[0] === 4, `the key ${parts[1]}+${parts[2]} is of a kind that this page does not know`);
  return { name: parts[1], id, signsTime: typed[0] === 4, bytes: typed.subarray(1), from: 0, until: Infinity };
}

/** The sizes that a comment in a trust file bounds. Null for a comment of others. One that is misspelled must not leave a key unbounded. */
function sizesOf(comment) {
  const own = /^#+\s*tracing-audit\s*:\s*(.*)$/i.exec(comment);
  if (own === null) return null;
  const bounds = /^sizes\s+(\d+)\.\.(\d*)$/.exec(own[1]);
  const from = Number(bounds?.[1]), until = bounds?.[2] === "" ? Infinity : Number(bounds?.[2]);
  need(from < until, `"${own[1]}" is not of the form "sizes 0..120000" or "sizes 120000.."`);
  return { from, until };
}

/** The keys in a text: a key alone, or the lines of a trust file, whose comments bound the sizes that a key may sign. */
function keysOf(trust) {
  const keys = [];
  let sizes = null, quorum = null;
  for (const line of trust.split("\n").map((line) => line.trim())) {
    const words = line.split(/\s+/), isComment = line === "" || line.startsWith("#");
    need(sizes === null || words[0] === "log", "the line after a comment with sizes is not that of the log which they bound");
    if (isComment) {
      sizes = sizesOf(line);
      continue;
    }
    if (words[0] === "quorum" && words[1] !== "none") quorum = words[1] ?? "";
    for (const word of words.filter((word) => /^[^\s+]+\+[0-9a-f]{8}\+/.test(word))) {
      keys.push({ ...keyOf(word), ...sizes });
    }
    sizes = null;
  }
  need(sizes === null, "the sizes at the end are of no log");
  return { keys, quorum };
}

/** Whether the browser verifies Ed25519, tried with the first test of RFC 8032. */
async function knowsEd25519() {
  const bytes = (digits) => Uint8Array.from(digits.match(/../g), (byte) => parseInt(byte, 16));
  const key = bytes("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
  const signature = bytes(
    "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
  );
  try {
    return (await ed25519(key, signature, new Uint8Array(0))) && !(await ed25519(key, signature, Uint8Array.of(1)));
  } catch {
    return false;
  }
}

async function ed25519(key, signature, message) {
  const imported = await crypto.subtle.importKey("raw", key, { name: "Ed25519" }, false, ["verify"]);
  return crypto.subtle.verify({ name: "Ed25519" }, imported, signature, message);
}

/** What each signature of a checkpoint is worth by these keys: `holds`, `wrong`, `no key` or `not checked`. */
async function signaturesOf(checkpoint, keys) {
  const canVerify = await knowsEd25519();
  const judged = [];
  for (const { name, id, bytes } of checkpoint.signatures) {
    const key = keys.find((key) => key.name === name && key.id === id);
    const judgement = { name, id, state: "no key", at: null, isOwn: name === checkpoint.origin, signsTime: false };
    judged.push(judgement);
    if (key === undefined) continue;
    judgement.signsTime = key.signsTime;
    let message = checkpoint.text, signature = bytes;
    if (key.signsTime && bytes.length > 8) {
      judgement.at = new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0);
      message = `cosignature/v1\ntime ${judgement.at}\n${message}`;
      signature = bytes.subarray(8);
    }
    if (checkpoint.size < key.from || checkpoint.size >= key.until) judgement.state = "out of its sizes";
    else if (!canVerify) judgement.state = "not checked";
    else if (signature.length !== 64) judgement.state = "wrong";
    else judgement.state = (await ed25519(key.bytes, signature, utf8(message)).catch(() => false)) ? "holds" : "wrong";
  }
  return judged;
}

/** Whether the checkpoint is the one that somebody has from elsewhere: a checkpoint, `SIZE ROOT`, a key, or a trust file. */
async function compared(checkpoint, given) {
  const trimmed = given.trim();
  const words = trimmed.split(/\s+/);
  if (words.length === 2 && /^\d+$/.test(words[0])) {
    return words[0] === String(checkpoint.size) && words[1] === checkpoint.rootText
      ? ["same", "Its size and its root are those that you gave."]
      : ["other", other(checkpoint, words[0])];
  }
  const { keys, quorum } = keysOf(trimmed);
  if (keys.length === 0) {
    const theirs = checkpointOf(trimmed.replaceAll("\r", ""));
    if (theirs.text === checkpoint.text) return ["same", "It is the checkpoint that you gave."];
    if (theirs.origin !== checkpoint.origin) return ["other", "The one that you gave is of another ledger."];
    return ["other", other(checkpoint, String(theirs.size))];
  }
  const judged = await signaturesOf(checkpoint, keys);
  const wrong = judged.find(({ state }) => state === "wrong" || state === "out of its sizes");
  if (wrong?.state === "wrong") return ["other", `The signature of ${wrong.name}+${wrong.id} does not hold.`];
  const held = judged.find(({ state, isOwn, signsTime }) => state === "holds" && isOwn && !signsTime);
  if (held === undefined) {
    if (wrong !== undefined) return ["other", `The key ${wrong.name}+${wrong.id} may not sign a ledger of this size.`];
    if (judged.some(({ state }) => state === "not checked")) return ["unknown", "This browser cannot verify Ed25519."];
    return ["other", "No key that you gave has signed it for this ledger."];
  }
  if (quorum !== null) {
    return ["unknown", `The key ${held.name}+${held.id} has signed it. Whether enough witnesses have, the command says, not this page.`];
  }
  return ["same", `The key ${held.name}+${held.id}, which you gave, has signed it.`];
}

function other(checkpoint, size) {
  return size === String(checkpoint.size)
    ? "It has another root than the one that you gave, which is of the same size."
    : `It is of ${checkpoint.size} entries, and the one that you gave is of ${size}: ask for a file by that one.`;
}

// ---- The bundle ----

/** The value of a line of JSON, in the one spelling that it can have. */
function valueOf(line) {
  let value = null;
  try {
    value = JSON.parse(line);
  } catch {
    throw new Refused("it is no JSON");
  }
  need(JSON.stringify(value) === line, "it is spelled in another way than it is written");
  return value;
}

function hasMembers(value, ...names) {
  return value !== null && typeof value === "object" && Object.keys(value).join() === names.join();
}

/** Verifies a bundle, line by line. An entry that does not hold keeps no other one from being verified. */
class Bundle {
  constructor(first) {
    this.hash = new Sha256().update(utf8(`${first}\n`));
    const value = valueOf(first);
    need(value?.["tracing-audit"] === "bundle@v1", "its first line is not that of a bundle");
    need(value.kind === "selection", "it is of a kind that this page does not know");
    need(hasMembers(value, "tracing-audit", "kind", "origin", "checkpoint"), "its first line is not that of a bundle");
    need(typeof value.checkpoint === "string", "its first line has no checkpoint");
    this.note = value.checkpoint;
    this.checkpoint = checkpointOf(value.checkpoint);
    need(value.origin === this.checkpoint.origin, "it is of another ledger than its checkpoint");
    this.next = 0;
    this.count = 0;
    this.last = null;
  }

  /** Takes the line of an entry, or the last one. Returns the entry, or null. */
  take(line) {
    need(this.last === null, "a line follows its last line");
    if (line.startsWith('{"entries":')) {
      this.last = line;
      return null;
    }
    this.hash.update(utf8(`${line}\n`));
    this.count += 1;
    let seq = null;
    try {
      const value = valueOf(line);
      need(Number.isSafeInteger(value?.seq) && value.seq >= 0, "it has no number");
      seq = value.seq;
      return this.entry(value, line);
    } catch (error) {
      const entry = entryOf(seq, []);
      return { ...entry, line, place: this.count, isProven: false, why: error instanceof Refused ? error.message : String(error) };
    }
  }

  entry(value, line) {
    const { seq, path } = value;
    need(hasMembers(value, "seq", "fields", "path") || hasMembers(value, "seq", "leaf", "path"), "it is not the line of an entry");
    const fields = value.fields === undefined ? null : fieldsOf(value.fields);
    const leaf = fields === null ? unbase64(value.leaf, 32) : leafOf(fields);
    const entry = fields === null ? hidden(seq) : entryOf(seq, fields);
    const { size, root } = this.checkpoint;
    need(Array.isArray(path), "it has no path to the checkpoint");
    const leads = isIncluded(leaf, seq, size, path.map((hash) => unbase64(hash, 32)), root);
    need(leads, "it does not lead to the checkpoint: it was changed, or is of another ledger");
    const inOrder = seq >= this.next;
    this.next = Math.max(this.next, seq + 1);
    need(inOrder, "it is not in the order of the numbers");
    return { ...entry, line, isProven: true, why: null };
  }

  /** What is wrong at the end. */
  problems() {
    const problems = [];
    if (this.last === null) return ["The entries are cut off: the last line of the bundle is missing."];
    try {
      const value = valueOf(this.last);
      need(hasMembers(value, "entries", "sha256"), "it is not that of a bundle");
      if (value.entries !== this.count) {
        problems.push(`There are ${this.count} entries, and ${value.entries} by the last line: some were removed or added.`);
      }
      if (value.sha256 !== hex(this.hash.digest())) problems.push("The bytes of the entries are not those that the last line is of.");
    } catch (error) {
      problems.push(`The last line of the bundle does not hold: ${error.message}.`);
    }
    return problems;
  }
}

/** An entry of which only the hash is there. */
function hidden(seq) {
  return {
    seq, core: WITHHELD, session: WITHHELD, agent: WITHHELD, resourceId: WITHHELD, reason: WITHHELD, problems: WITHHELD,
    metadata: WITHHELD, hiddenMembers: 0,
  };
}

/** The proof of one entry as a file of its own: c2sp.org/tlog-proof. */
function proofFile(entry, note) {
  const { seq, fields, path } = JSON.parse(entry.line);
  if (fields === undefined) return null;
  const opening = JSON.stringify({ "tracing-audit": "opening@v1", fields });
  return ["c2sp.org/tlog-proof@v1", `extra ${base64(utf8(opening))}`, `index ${seq}`, ...path, "", note].join("\n");
}

/** Verifies all lines, a few milliseconds at a time. `tell` is told how many are done. */
async function verifyLines(lines, pause, tell) {
  const bundle = new Bundle(lines.shift() ?? "");
  const entries = [], problems = [];
  let until = Date.now() + 12;
  for (const line of lines) {
    try {
      const entry = bundle.take(line);
      if (entry !== null) entries.push(entry);
    } catch (error) {
      problems.push(`The entries do not hold: ${error.message}.`);
      break;
    }
    if (Date.now() >= until) {
      tell(entries.length);
      await pause();
      until = Date.now() + 12;
    }
  }
  problems.push(...bundle.problems());
  return { bundle, entries, problems };
}
