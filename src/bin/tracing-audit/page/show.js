// The second part: shows what the first one has verified. Whatever comes from an entry, or from whoever made the file, becomes text of
// the page and never markup. It is isolated from what stands beside it, bounded, and what cannot be seen in it is spelled out.

// ---- Text ----

const SHORT = 160, LONG = 20000, LONGEST_PROOF = 400000, MOST_PRINTED = 2000, MOST_PROBLEMS = 20;

// The invisible characters: the same as for the command, which escapes them. The bracket that begins a spelled-out
// character is one of them, so that no text can look like another one.
const HIDDEN = new RegExp(
  "(?! )[\\p{Cc}\\p{Cf}\\p{Cn}\\p{Co}\\p{Cs}\\p{Zl}\\p{Zp}\\p{Zs}\\u034f\\u115f\\u1160\\u17b4\\u17b5\\u180b-\\u180f\\u2800\\u27e8\\u3164" +
    "\\ufe00-\\ufe0f\\uffa0\\ufffc\\u{e0100}-\\u{e01ef}]",
  "gu",
);

/** The text as people may see it, at most so long. */
function visible(text, most = SHORT) {
  let cut = text.slice(0, most);
  if (/[\ud800-\udbff]$/.test(cut)) cut = cut.slice(0, -1);
  const left = text.length - cut.length;
  const spelled = (character) => {
    if (character === "\n" && most >= LONG) return character;
    return `⟨U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`;
  };
  // A letter has four marks at most.
  const parts = cut.split(/(\p{M}{5,})/u).map((part, i) => {
    const letters = Array.from(part), kept = i % 2 === 0 ? letters.length : 4;
    const more = kept < letters.length ? `⟨${letters.length - kept} more marks⟩` : "";
    return letters.slice(0, kept).join("").replace(HIDDEN, spelled) + more;
  });
  cut = parts.join("");
  return left > 0 ? `${cut}⟨${left} more⟩` : cut;
}

/** An element. Children that are texts become text. */
function make(name, attributes, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes ?? {})) element.setAttribute(key, value);
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** What somebody else wrote. */
function foreign(text, most = SHORT) {
  return make("bdi", { class: most === LONG ? "foreign long" : "foreign" }, visible(text, most));
}

function withheld() {
  return make("span", { class: "withheld" }, "withheld");
}

/** A part of an entry: its text, that it is withheld, or nothing. */
function part(value, most = SHORT) {
  if (value === WITHHELD) return withheld();
  return value === null || value === "" ? "" : foreign(value, most);
}

function count(number, one, several) {
  return number === 1 ? `1 ${one}` : `${grouped(number)} ${several}`;
}

function grouped(number) {
  return String(number).replace(/\B(?=(\d{3})+$)/g, "\u202f");
}

// ---- What the page is made of ----

/** Reads the parts of the page, as they were before anything was shown. */
function partsOf(page) {
  const text = (selector) => page.querySelector(selector)?.textContent ?? null;
  const blocks = Array.from(page.querySelectorAll("script.bundle"), (block) => block.textContent);
  const about = page.querySelector("#about");
  return {
    policy: page.querySelector('meta[http-equiv="Content-Security-Policy"]')?.getAttribute("content") ?? null,
    style: text("style"),
    script: text("body > script:not([type])"),
    plain: Array.from(page.querySelectorAll("noscript"), (part) => part.textContent),
    blocks,
    about: about?.textContent ?? null,
    aboutHash: about?.getAttribute("data-sha256") ?? null,
    written: writtenIn(page),
    last: page.lastChild?.nodeType === 8 ? page.lastChild.data : null,
  };
}

/** The markup of a node, as it is written. */
function markupOf(node) {
  if (node.nodeType === 3) return node.data;
  if (node.nodeType !== 1) return `<\x21--${node.data}-->`;
  const attributes = Array.from(node.attributes, ({ name, value }) => ` ${name}="${value}"`).join("");
  const end = node.localName === "meta" ? "" : `<\/${node.localName}>`;
  return `<${node.localName}${attributes}>${Array.from(node.childNodes, markupOf).join("")}${end}`;
}

/**
 * The whole page before its last line, in pieces: what is written, made again of what the browser has read. An extension of the browser
 * may have put more into its head, which is left out.
 */
function writtenIn(page) {
  const { doctype, documentElement: root, head, body } = page;
  const kinds = ["meta[charset]", "meta[http-equiv]", 'meta[name="viewport"]', 'meta[name="referrer"]', "title", "style"];
  const own = kinds.map((kind) => head.querySelector(kind)).filter((one) => one !== null).map((one) => `${markupOf(one)}\n`);
  const begin = `<!DOCTYPE ${doctype?.name}${doctype?.publicId}${doctype?.systemId}>\n<html lang="${root.getAttribute("lang")}">\n<head>\n` +
    `${own.join("")}<\/head>\n<body>`;
  const nodes = Array.from(body.childNodes);
  // The line feeds before, between and behind the end tags, and that of the last line, become a part of the body.
  const isWhole = nodes.at(-1)?.nodeType === 3 && nodes.at(-1).data === "\n\n\n\n";
  const end = isWhole ? [() => "\n<\/body>\n<\/html>\n"] : [];
  return [() => begin, ...nodes.slice(0, nodes.length - end.length).map((node) => () => markupOf(node)), ...end];
}

/** Whether the bytes of the page are those that its last line is of. Returns what is wrong, if anything is. */
async function wrongBytes({ written, last }, pause) {
  const claimed = /^sha256 ([0-9a-f]{64})$/.exec(last ?? "");
  if (claimed === null) return "The file is cut off: its last line is missing.";
  const hash = new Sha256();
  let until = Date.now() + 12;
  for (const piece of written) {
    hash.update(utf8(piece()));
    if (Date.now() >= until) {
      await pause();
      until = Date.now() + 12;
    }
  }
  return hex(hash.digest()) === claimed[1] ? null : "The bytes of the page are not those that its last line is of.";
}

/** The policy of a page with this style and this script. */
function policyOf(style, script) {
  const source = (text) => `'sha256-${base64(sha256(utf8(text)))}'`;
  return `default-src 'none'; script-src ${source(script)}; style-src ${source(style)}; base-uri 'none'; form-action 'none'; ` +
    "require-trusted-types-for 'script'; trusted-types 'none'";
}

/** What the file says of itself, and what in the page is not as it was written. */
function aboutOf(parts) {
  const problems = [];
  let about = {};
  if (parts.about === null) {
    problems.push("The file is cut off: its end, which says what was asked, is missing.");
    return { about, problems };
  }
  if (hex(sha256(utf8(parts.about))) !== parts.aboutHash) {
    problems.push("The part that says what was asked, by whom and when, is not as it was written.");
  }
  try {
    about = JSON.parse(parts.about);
    need(about?.["tracing-audit"] === "evidence@v1", "it is of an unknown version");
  } catch (error) {
    problems.push(`The part that says what was asked cannot be read: ${error.message}.`);
    about = {};
  }
  const plain = new Sha256();
  for (const text of parts.plain) plain.update(utf8(text));
  const found = {
    style: hex(sha256(utf8(parts.style ?? ""))),
    script: hex(sha256(utf8(parts.script ?? ""))),
    plain: hex(plain.digest()),
  };
  const names = { style: "The style of the page", script: "The script of the page", plain: "The plain table, for reading without scripts," };
  for (const [name, what] of Object.entries(names)) {
    if (about.parts?.[name] !== found[name]) problems.push(`${what} is not as it was written.`);
  }
  if (parts.policy !== policyOf(parts.style ?? "", parts.script ?? "")) {
    problems.push("The policy of the page, which forbids the network, is not as it was written.");
  }
  return { about, problems };
}

// ---- The page ----

const NAMES = {
  "holds": "holds",
  "wrong": "does not hold",
  "no key": "not checked: the file names no such key",
  "not checked": "not checked: this browser does not know Ed25519",
  "out of its sizes": "not accepted: the key may not sign a ledger of this size",
};

function section(title, ...children) {
  const id = `title-${title.toLowerCase().replace(/[^a-z]+/g, "-")}`;
  return make("section", { "aria-labelledby": id }, make("h2", { id }, title), ...children);
}

function list(pairs) {
  const items = pairs.filter(([, value]) => value !== null);
  return make("dl", null, ...items.flatMap(([name, value]) => [make("dt", null, name), make("dd", null, value)]));
}

/** The sentence that stands above everything. */
class Verdict {
  constructor() {
    this.title = make("h1", { "aria-live": "polite" }, "Verifying");
    this.text = make("p", null, "");
    this.problems = make("ul", { class: "problems" });
    this.progress = make("progress", { max: "1", value: "0" });
    this.element = make("header", { class: "verdict working" }, this.title, this.text, this.progress, this.problems);
  }

  working(done, all) {
    this.progress.value = all === 0 ? 0 : done / all;
    this.text.textContent = `${grouped(done)} of ${grouped(all)} entries`;
  }

  say(kind, title, text, problems = []) {
    this.element.className = `verdict ${kind}`;
    // Also where the style was changed, so that the browser does not use it.
    this.element.style.outline = kind === "red" ? "4px solid #d11507" : "";
    this.title.textContent = title;
    this.text.textContent = text;
    this.progress.remove();
    const shown = problems.slice(0, MOST_PROBLEMS).map((problem) => make("li", null, foreign(problem, 600)));
    const more = problems.length - shown.length;
    this.problems.replaceChildren(...shown, ...(more > 0 ? [make("li", null, `and ${grouped(more)} more`)] : []));
  }
}

/** The numbers of entries that follow each other without a gap. */
function isWithoutGap(entries) {
  return entries.length > 1 && entries.every((entry, i) => i === 0 || entry.seq === entries[i - 1].seq + 1);
}

function aboutSection(about) {
  const texts = (list) => (Array.isArray(list) ? list.map(String) : []);
  const conditions = texts(about.asked);
  const all = "every entry of the ledger that the checkpoint covers";
  const asked = conditions.length === 0 ? all : make("ul", { class: "plain" }, ...conditions.map((one) => make("li", null, foreign(one, 600))));
  const hidden = texts(about.withheld), only = texts(about.only);
  return section(
    "What was asked",
    make("p", { class: "note" }, "Whoever made the file says this. It is not proven."),
    list([
      ["Conditions", asked],
      ["Ledger", foreign(String(about.ledger ?? ""))],
      ["Made at", foreign(String(about.made_at ?? ""))],
      ["Made by", about.made_by ? foreign(String(about.made_by), 600) : "nobody gave a name"],
      ["Made with", foreign(String(about.made_with ?? ""))],
      ["Withheld", hidden.length > 0 ? foreign(hidden.join(", "), 600) : only.length > 0 ? foreign(`all but ${only.join(", ")}`, 600) : "nothing"],
      ["Not covered", about.beyond > 0 ? `${count(about.beyond, "matching entry is", "matching entries are")} newer than the checkpoint, and not in the file` : null],
    ]),
  );
}

function checkpointSection(checkpoint, judged, onCompared) {
  const lines = judged.map(({ name, id, state, at, signsTime }) => {
    const when = at === null ? "" : `, at ${time(at * 1000000n)}`;
    return make("li", null, make("span", { class: `mark ${state === "holds" ? "ok" : state === "wrong" ? "bad" : "open"}` }, NAMES[state]), " ",
      foreign(`${name}+${id}`, 600), signsTime ? ` (with a time${when})` : "");
  });
  const field = make("textarea", { id: "given", rows: "4", spellcheck: "false", autocomplete: "off", "aria-describedby": "given-help" });
  const answer = make("p", { class: "answer", role: "status" }, "");
  const button = make("button", { type: "button" }, "Compare");
  // A verdict must not stand beside a text that it is not of.
  field.addEventListener("input", () => {
    answer.replaceChildren();
    answer.className = "answer";
    onCompared(null);
  });
  button.addEventListener("click", async () => {
    const text = field.value;
    let result = ["unknown", ""];
    try {
      result = await compared(checkpoint, text);
    } catch (error) {
      result = ["unknown", `That is neither a checkpoint nor a key: ${error.message}.`];
    }
    if (text !== field.value) return;
    answer.className = `answer ${result[0]}`;
    answer.replaceChildren(foreign(result[1], 600));
    onCompared(result);
  });
  return section(
    "The checkpoint",
    make("p", null, "Everything is held against this checkpoint: the size of the ledger when it was made, and a hash over all its entries."),
    list([
      ["Ledger", foreign(checkpoint.origin, 600)],
      ["Size", count(checkpoint.size, "entry", "entries")],
      ["Root", make("code", null, checkpoint.rootText)],
      ["Signatures", lines.length === 0 ? "none" : make("ul", { class: "plain" }, ...lines)],
      ["As it stands", make("pre", null, visible(checkpoint.text, LONG))],
    ]),
    make("div", { class: "compare" },
      make("label", { for: "given" }, "The checkpoint, or the key, that you have from elsewhere"),
      make("p", { class: "note", id: "given-help" },
        "Three lines, or size and root, or a key, or a trust file. Not from whoever sent you this file. Nothing that you enter leaves this page."),
      field, button, answer),
  );
}

// ---- The chart ----

const STEPS = [1, 10, 60, 600, 3600, 21600, 86400, 604800, 2592000, 31536000, 315360000];

function chartSection(entries) {
  const times = entries.filter(({ core }) => core !== null && core !== WITHHELD).map(({ core }) => Number(core.ts / 1000000n));
  if (times.length === 0) return null;
  const [least, most] = times.reduce(([least, most], time) => [Math.min(least, time), Math.max(most, time)], [Infinity, -Infinity]);
  const step = STEPS.find((step) => (most - least) / step < 60) ?? (most - least) / 59;
  const first = Math.floor(least / step), bars = new Array(Math.floor(most / step) - first + 1).fill(0);
  for (const time of times) bars[Math.floor(time / step) - first] += 1;
  const highest = Math.max(...bars), width = 720 / Math.max(bars.length, 12), height = 120;
  const svg = (name, attributes, ...children) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children);
    return element;
  };
  const moment = (bar) => time(BigInt(Math.round((first + bar) * step)) * 1000000n).replace(/\.000000 UTC$/, "");
  const drawn = bars.map((number, bar) => {
    const tall = number === 0 ? 0 : Math.max(2, (number / highest) * height);
    const title = svg("title", {}, `${moment(bar)}: ${count(number, "entry", "entries")}`);
    return svg("rect", { x: bar * width, y: height - tall, width: Math.max(1, width - 2), height: tall, class: "bar" }, title);
  });
  const from = time(BigInt(least) * 1000000n).slice(0, 19), to = time(BigInt(most) * 1000000n).slice(0, 19);
  const label = `${count(times.length, "entry", "entries")} from ${from} to ${to} UTC; at most ${grouped(highest)} in ${spanOf(step)}`;
  return section(
    "Over time",
    make("figure", null,
      svg("svg", { viewBox: `0 0 720 ${height + 1}`, role: "img", "aria-label": label, preserveAspectRatio: "none" }, ...drawn,
        svg("rect", { x: 0, y: height, width: 720, height: 1, class: "axis" })),
      make("div", { class: "ends" }, make("span", null, moment(0)), make("span", null, moment(bars.length))),
      make("figcaption", null, `${label}, by the time of the entries.`)),
  );
}

function spanOf(seconds) {
  const units = [["year", 31536000], ["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];
  const [name, length] = units.find(([, length]) => seconds >= length) ?? units[4];
  return count(Math.round(seconds / length), name, `${name}s`);
}

// ---- The table ----

// The ids that the library makes of names: UUIDs of version 5, in this name space.
const NAMES_OF_IDS = Uint8Array.of(0x25, 0x81, 0x02, 0xa3, 0x67, 0x37, 0x54, 0x67, 0xaf, 0xdb, 0x04, 0xc3, 0xcf, 0x69, 0xe6, 0xe1);
const IDS = new Map();

/** SHA-1 (FIPS 180-4), of which these ids are made. Nothing else here relies on it. */
function sha1(message) {
  const padded = new Uint8Array(((message.length + 8) >> 6 << 6) + 64), bits = new DataView(padded.buffer), w = new Int32Array(80);
  padded.set(message);
  padded[message.length] = 0x80;
  bits.setUint32(padded.length - 4, message.length * 8);
  const turned = (word, by) => (word << by) | (word >>> (32 - by));
  const state = Int32Array.of(0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0);
  for (let at = 0; at < padded.length; at += 64) {
    for (let i = 0; i < 80; i++) w[i] = i < 16 ? bits.getInt32(at + i * 4) : turned(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
    let [a, b, c, d, e] = state;
    for (let i = 0; i < 80; i++) {
      const [mixed, constant] = i < 20 ? [(b & c) | (~b & d), 0x5a827999]
        : i < 40 ? [b ^ c ^ d, 0x6ed9eba1]
          : i < 60 ? [(b & c) | (b & d) | (c & d), 0x8f1bbcdc] : [b ^ c ^ d, 0xca62c1d6];
      [a, b, c, d, e] = [(turned(a, 5) + mixed + e + constant + w[i]) | 0, a, turned(b, 30), c, d];
    }
    [a, b, c, d, e].forEach((word, i) => { state[i] += word; });
  }
  const digest = new DataView(new ArrayBuffer(20));
  state.forEach((word, i) => digest.setInt32(i * 4, word));
  return new Uint8Array(digest.buffer);
}

/** The id that the library makes of a name. */
function idOf(name) {
  let id = IDS.get(name);
  if (id === undefined) {
    const bytes = sha1(concat(NAMES_OF_IDS, utf8(name))).slice(0, 16);
    bytes[6] = (bytes[6] & 0x0f) | 0x50;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    id = uuid(bytes);
    IDS.set(name, id);
  }
  return id;
}

/** The name that the id of the agent was made from, if the metadata have it; else the id. */
function agentOf({ agent, metadata }) {
  if (typeof agent !== "string" || typeof metadata !== "string" || !metadata.includes('"agent_id"')) return agent;
  try {
    const name = JSON.parse(metadata)?.agent_id;
    return typeof name === "string" && idOf(name) === agent ? name : agent;
  } catch {
    // Metadata need not be JSON.
    return agent;
  }
}

function stateOf(entry) {
  return entry.isProven ? "proven" : "does not hold";
}

const COLUMNS = [
  ["Number", "seq", (entry) => (entry.seq === null ? "?" : String(entry.seq))],
  ["Time (UTC)", "time", (entry) => ofCore(entry, ({ ts }) => time(ts).replace(/\.000000 UTC$| UTC$/, ""))],
  ["Action", "action", (entry) => ofCore(entry, ({ action }) => action)],
  ["Agent", "agent", agentOf],
  ["Resource", "resource", (entry) => [ofCore(entry, ({ resource }) => resource), entry.resourceId]],
  ["Decision", "decision", (entry) => ofCore(entry, ({ decision }) => decision)],
  ["Reason", "reason", (entry) => entry.reason],
];

function ofCore({ core }, read) {
  return core === null || core === WITHHELD ? core : read(core);
}

/** All parts of an entry, with their names. */
function allParts(entry) {
  const of = (read) => ofCore(entry, read);
  return [
    ["seq", entry.seq === null ? null : String(entry.seq)],
    ["id", of(({ id }) => id)],
    ["ts", of(({ ts }) => time(ts))],
    ["committed_at", of(({ committedAt }) => time(committedAt))],
    ["workspace_id", of(({ workspace }) => workspace)],
    ["session_id", entry.session],
    ["agent_id", entry.agent],
    ["action", of(({ action }) => action)],
    ["resource", of(({ resource }) => resource)],
    ["resource_id", entry.resourceId],
    ["decision", of(({ decision }) => decision)],
    ["reason", entry.reason],
    ["risk_score", of(({ risk }) => (risk === null ? null : String(risk)))],
    ["metadata", entry.metadata],
    ["problems", entry.problems],
    ["writer", of(({ writer }) => writer)],
    ["position", of(({ position }) => String(position))],
  ];
}

function searched(entry) {
  const texts = allParts(entry).map(([name, value]) => (value === WITHHELD ? `${name} withheld` : value ?? ""));
  return [...texts, stateOf(entry), entry.why ?? ""].join("\n").toLowerCase();
}

/** A table of which only the rows in sight are in the page. */
class Table {
  constructor(entries, note) {
    this.entries = entries;
    this.found = entries;
    this.note = note;
    this.texts = null;
    this.rowHeight = 0;
    this.body = make("tbody");
    this.above = make("tr", { class: "room", "aria-hidden": "true" }, make("td"));
    this.below = this.above.cloneNode(true);
    const heads = [...COLUMNS.map(([title, kind]) => make("th", { class: kind, scope: "col" }, title)), make("th", { class: "proof", scope: "col" }, "Proof")];
    this.table = make("table", null, make("thead", null, make("tr", null, ...heads)), this.body);
    this.scroll = make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Entries" }, this.table);
    this.scroll.addEventListener("scroll", () => this.draw(), { passive: true });
    this.search = make("input", { type: "search", id: "search", autocomplete: "off", spellcheck: "false" });
    this.search.addEventListener("input", () => {
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.find(this.search.value), 150);
    });
    this.number = make("p", { class: "note", role: "status" }, "");
    this.details = make("dialog", { "aria-label": "One entry" });
    addEventListener("resize", () => {
      this.rowHeight = 0;
      this.draw();
    });
    addEventListener("beforeprint", () => this.print());
    addEventListener("afterprint", () => this.draw());
  }

  section() {
    return section("Entries", make("div", { class: "search" }, make("label", { for: "search" }, "Search in all fields"), this.search), this.number, this.scroll, this.details);
  }

  find(words) {
    const wanted = words.toLowerCase().split(/\s+/).filter((word) => word !== "");
    this.texts ??= this.entries.map(searched);
    this.found = wanted.length === 0 ? this.entries : this.entries.filter((_, i) => wanted.every((word) => this.texts[i].includes(word)));
    this.scroll.scrollTop = 0;
    this.draw();
  }

  row(entry, index) {
    const cells = COLUMNS.map(([, kind, read]) => {
      const value = read(entry);
      const shown = kind === "seq" ? [this.opener(entry, value)] : [value].flat().flatMap((one) => [part(one), " "]);
      return make("td", { class: kind }, make("div", { class: "cell" }, ...shown));
    });
    const none = entry.isProven && entry.core === null ? "proven to be no entry" : null;
    const state = make("span", { class: `mark ${entry.isProven ? "ok" : "bad"}` }, none ?? stateOf(entry));
    const row = make("tr", { "aria-rowindex": String(index + 2), class: entry.isProven ? "" : "bad" }, ...cells, make("td", { class: "proof" }, make("div", { class: "cell" }, state)));
    return row;
  }

  opener(entry, title) {
    const button = make("button", { type: "button", class: "open", "aria-label": `Entry ${title}` }, title);
    button.addEventListener("click", () => this.open(entry));
    return button;
  }

  /** Puts the rows that are in sight into the page. */
  draw() {
    const all = this.found.length;
    this.number.textContent = all === this.entries.length ? count(all, "entry", "entries") : `${grouped(all)} of ${count(this.entries.length, "entry", "entries")}`;
    this.table.setAttribute("aria-rowcount", String(all + 1));
    if (this.rowHeight === 0 && all > 0) {
      this.body.replaceChildren(this.row(this.found[0], 0));
      this.rowHeight = this.body.firstChild.getBoundingClientRect().height || 36;
    }
    const first = Math.max(0, Math.floor(this.scroll.scrollTop / this.rowHeight) - 10);
    const last = Math.min(all, first + Math.ceil(this.scroll.clientHeight / this.rowHeight) + 20);
    this.above.style.height = `${first * this.rowHeight}px`;
    this.below.style.height = `${(all - last) * this.rowHeight}px`;
    const rows = this.found.slice(first, last).map((entry, i) => this.row(entry, first + i));
    this.body.replaceChildren(this.above, ...rows, this.below);
  }

  /** Paper does not scroll: all rows, up to a number. */
  print() {
    const shown = this.found.slice(0, MOST_PRINTED), all = this.found.length;
    this.body.replaceChildren(...shown.map((entry, i) => this.row(entry, i)));
    if (all > shown.length) this.number.textContent = `the first ${grouped(shown.length)} of ${grouped(all)} entries: search for fewer to print them`;
  }

  open(entry) {
    const close = make("button", { type: "button", class: "close", autofocus: "" }, "Close");
    close.addEventListener("click", () => this.details.close());
    const parts = allParts(entry).filter(([, value]) => value !== null).map(([name, value]) => [name, part(value, LONG)]);
    const more = entry.hiddenMembers > 0 && entry.metadata !== WITHHELD ? [["metadata", make("span", { class: "withheld" }, count(entry.hiddenMembers, "member withheld", "members withheld"))]] : [];
    const proof = entry.isProven ? proofFile(entry, this.note) : null;
    const state = entry.isProven
      ? make("p", { class: "answer same" }, "Proven: its values and its number lead to the checkpoint.")
      : make("p", { class: "answer other" }, "Does not hold: ", foreign(entry.why, 600));
    this.details.replaceChildren(
      close,
      make("h2", null, entry.seq === null ? "An entry" : `Entry ${entry.seq}`), state,
      list(entry.isProven ? [...parts, ...more] : []),
      ...(proof === null ? [] : [make("h3", null, "Its proof, as a file of its own (c2sp.org/tlog-proof)"), proof.length > LONGEST_PROOF
        ? make("p", { class: "note" }, `It has ${grouped(proof.length)} characters, which are too many to show: tracing-audit prove makes it.`)
        : make("pre", { class: "file" }, visible(proof, LONGEST_PROOF))]),
    );
    this.details.showModal();
  }
}

// ---- Together ----

/** Lets the browser draw. Messages, unlike timers, go on at full speed in a page that is not in sight. */
function pause() {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = resolve;
    port2.postMessage(null);
  });
}

/** What everything together says, before and after the reader has compared the checkpoint. */
function conclude(verdict, problems, entries, comparison) {
  if (problems.length > 0) {
    verdict.say("red", "Does not hold", "Something in this file was changed, removed or added. Ask for it again, and do not rely on what it shows.", problems);
    return;
  }
  const all = `${count(entries.length, "entry leads", "entries lead")} to the checkpoint`;
  const gap = isWithoutGap(entries) ? `, and none between number ${entries[0].seq} and number ${entries.at(-1).seq} is left out` : "";
  if (comparison?.[0] === "other") {
    verdict.say("red", "Another checkpoint than yours", visible(comparison[1], 600));
  } else if (comparison?.[0] === "same") {
    verdict.say("green", "Verified", `${all}${gap}. ${visible(comparison[1], 600)}`);
  } else {
    verdict.say("amber", "Holds, by the checkpoint in this file", `${all}${gap}. Anybody can make a file with a checkpoint of its own: compare it below with the checkpoint or the key that you have from elsewhere.`);
  }
}

function checksSection(browser, problems, entries, bundle, judged) {
  const held = judged.filter(({ state }) => state === "holds").length;
  const unknown = judged.some(({ state }) => state === "not checked");
  const proven = entries.filter(({ isProven }) => isProven).length;
  const rows = [
    [browser === true ? "ok" : browser === false ? "bad" : "open", browser === null ? "This browser offers no SHA-256 to hold that of the page against." : "The SHA-256 of this page and that of the browser agree."],
    [problems.page ? "bad" : "ok", "Style, script, policy, plain table, what was asked, and all else in the page: as they were written."],
    [proven === entries.length ? "ok" : "bad", `Each entry by itself: ${grouped(proven)} of ${grouped(entries.length)} lead to the checkpoint.`],
    [problems.bundle ? "bad" : "ok", "The bytes of the entries: those that the last line of the bundle is of."],
    [judged.some(({ state }) => state === "wrong") ? "bad" : held > 0 && held === judged.length ? "ok" : "open",
      judged.length === 0 ? "Signatures: the checkpoint has none."
        : unknown ? "Signatures: not checked, because this browser does not know Ed25519."
          : `Signatures: ${held} of ${judged.length} hold by the keys that the file names.`],
  ];
  const marks = { ok: "✓ ", bad: "✕ ", open: "– " };
  return section("What was checked", make("ul", { class: "plain checks" }, ...rows.map(([kind, text]) => make("li", { class: kind }, make("span", { "aria-hidden": "true" }, marks[kind]), text))));
}

function limitsSection() {
  const limits = LIMITS.trim().split("\n");
  return section("What this page cannot tell", make("ul", null, ...limits.map((limit) => make("li", null, limit))));
}

async function start(parts) {
  const verdict = new Verdict(), main = make("main", { id: "page" }, verdict.element);
  // Nothing of the page stays that could look like a part of what is shown.
  document.body.replaceChildren(main);
  document.title = "Evidence: verifying";
  await pause();
  const { about, problems: ofPage } = aboutOf(parts);
  const bytes = await wrongBytes(parts, pause);
  if (bytes !== null) ofPage.push(bytes);
  const browser = await agreesWithBrowser().catch(() => false);
  const found = [...ofPage];
  if (browser === false) found.push("The SHA-256 of this page and that of the browser do not agree.");
  const lines = linesOf(parts.blocks);
  const all = Math.max(0, lines.length - 2);
  let verified = null;
  try {
    verified = await verifyLines(lines, pause, (done) => verdict.working(done, all));
  } catch (error) {
    found.push(`The first line of the entries does not hold: ${error.message}.`);
  }
  if (verified === null) {
    conclude(verdict, found, [], null);
    main.append(aboutSection(about), limitsSection());
    document.title = "Evidence: does not hold";
    return;
  }
  const { bundle, entries, problems } = verified;
  let judged = [];
  try {
    judged = await signaturesOf(bundle.checkpoint, keysOf(String(about.keys ?? "")).keys);
  } catch (error) {
    found.push(`The keys in the file cannot be read: ${error.message}.`);
  }
  found.push(...problemsOf(about, entries, judged), ...problems);
  const said = (comparison) => {
    conclude(verdict, found, entries, comparison);
    document.title = `Evidence: ${verdict.title.textContent}`;
  };
  const table = new Table(entries, bundle.note);
  const chart = chartSection(entries);
  main.append(
    checkpointSection(bundle.checkpoint, judged, said), aboutSection(about), ...(chart === null ? [] : [chart]), table.section(),
    checksSection(browser, { page: ofPage.length > 0, bundle: problems.length > 0 }, entries, bundle, judged), limitsSection(),
  );
  table.draw();
  said(null);
}

/** What does not hold of the entries and of the signatures. */
function problemsOf(about, entries, judged) {
  const problems = [];
  for (const { name, id, state } of judged) {
    if (state === "wrong") problems.push(`The signature of ${name}+${id} does not hold: the checkpoint or the signature was changed.`);
    if (state === "out of its sizes") problems.push(`The key ${name}+${id} may not sign a ledger of this size.`);
  }
  for (const { seq, place, isProven, why } of entries) {
    if (!isProven) problems.push(`${seq === null ? `The entry in place ${place}` : `Entry ${seq}`} does not hold: ${why}.`);
  }
  if (about.entries !== undefined && about.entries !== entries.length) {
    problems.push(`The file says that it has ${about.entries} entries, and there are ${entries.length}.`);
  }
  return problems;
}

/** The lines of the bundle, out of the elements that they are in. */
function linesOf(blocks) {
  return blocks.flatMap((block) => block.replace(/^\n/, "").replace(/\n$/, "").split("\n"));
}

if (typeof document !== "undefined") {
  document.addEventListener("DOMContentLoaded", () => {
    start(partsOf(document)).catch((error) => {
      const message = make("p", null, `The script of this page has ended early, and nothing was verified: ${error.message}`);
      document.body.replaceChildren(make("main", { id: "page" }, make("header", { class: "verdict red", role: "alert" }, make("h1", null, "Nothing was verified"), message)));
    });
  });
}
