// Runs the script of evidence files without a browser, with what Node.js has of WebCrypto, and prints what it finds.
//
//     node verify_page.js GIVEN FILE...
//
// GIVEN is a JSON list of what readers would compare the checkpoint with. The output is a JSON list with one object for each file:
//
//     problems    what does not hold, as the page says it
//     entries     for each entry: seq, isProven, why, its parts, and the cells of its row as the page shows them; "withheld" is null
//     signatures  for each signature: its name, its id, and what it is worth by the keys in the file
//     compared    what comparing gives for each of GIVEN: "same", "other" or "unknown", and a sentence
//
// The script is taken out of the file, so it is the one that a browser runs. The parts are found as a browser finds them: each of
// their elements holds text that nothing but its end tag ends.
"use strict";

const { webcrypto } = require("node:crypto");
const fs = require("node:fs");
const vm = require("node:vm");

function inside(page, begin, end) {
  const found = [];
  for (let at = page.indexOf(begin); at >= 0; at = page.indexOf(begin, at)) {
    const from = at + begin.length;
    const until = page.indexOf(end, from);
    if (until < 0) break;
    found.push(page.slice(from, until));
    at = until;
  }
  return found;
}

async function judge(file, given) {
  const page = fs.readFileSync(file, "utf8");
  const script = inside(page, "<script>", "</script>")[0] ?? null;
  const last = /<!--(sha256 [0-9a-f]*)-->\n$/.exec(page);
  const about = /<script type="application\/json" id="about" data-sha256="([^"]*)">([^<]*)<\/script>/.exec(page);
  const parts = {
    policy: inside(page, 'http-equiv="Content-Security-Policy" content="', '"')[0] ?? null,
    style: inside(page, "<style>", "</style>")[0] ?? null,
    script,
    plain: inside(page, "<noscript>", "</noscript>"),
    blocks: inside(page, '<script type="application/jsonl" class="bundle">', "</script>"),
    about: about?.[2] ?? null,
    aboutHash: about?.[1] ?? null,
    written: [() => page.slice(0, last?.index)],
    last: last?.[1] ?? null,
  };
  const context = vm.createContext({ crypto: webcrypto, TextEncoder, TextDecoder, parts, given });
  vm.runInContext(script, context);
  const run = (code) => vm.runInContext(`(async () => { ${code} })()`, context);
  return run(`
    const { about, problems } = aboutOf(parts);
    const bytes = await wrongBytes(parts, async () => {});
    if (bytes !== null) problems.push(bytes);
    if ((await agreesWithBrowser()) !== true) problems.push("SHA-256");
    const lines = linesOf(parts.blocks);
    let verified = null;
    try {
      verified = await verifyLines(lines, async () => {}, () => {});
    } catch (error) {
      return { problems: [...problems, error.message], entries: [], signatures: [], compared: [] };
    }
    const { bundle, entries } = verified;
    const signatures = await signaturesOf(bundle.checkpoint, keysOf(String(about.keys ?? "")).keys);
    return {
      problems: [...problems, ...problemsOf(about, entries, signatures), ...verified.problems],
      entries: entries.map((entry) => ({
        seq: entry.seq, isProven: entry.isProven, why: entry.why,
        cells: COLUMNS.map(([, , read]) => [read(entry)].flat().map((value) => (value === WITHHELD ? null : visible(value ?? "")))),
        parts: Object.fromEntries(allParts(entry).filter(([, value]) => value !== null).map(([name, value]) => [name, value === WITHHELD ? null : value])),
      })),
      signatures: signatures.map(({ name, id, state }) => ({ name, id, state })),
      compared: await Promise.all(given.map((one) => compared(bundle.checkpoint, one).catch((error) => ["unknown", error.message]))),
    };
  `);
}

(async () => {
  const [given, ...files] = process.argv.slice(2);
  const judged = [];
  for (const file of files) {
    judged.push(await judge(file, JSON.parse(given)).catch((error) => ({ problems: [String(error)], entries: [] })));
  }
  console.log(JSON.stringify(judged));
})();
