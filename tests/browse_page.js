// Opens evidence files in headless Chromium and prints what a person would see there.
//
//     node browse_page.js PICTURES GIVEN FILE...
//
// PICTURES is a directory for pictures of each file: wide, narrow, dark, printed, without scripts; "-" makes none. GIVEN is a JSON list
// of what a reader would compare the checkpoint with. The output is a JSON list with one object for each file:
//
//     title, kind, verdict, problems   of the page, once it has verified
//     seen, outline                    whether nothing lies over the verdict, and the line around it
//     rows, numbers                    rows of the table that are drawn, and what stands above it
//     elements                         elements in the page that only an entry could have brought there
//     opened                           of each row that was opened: whether its window is within the page, and how long its text is
//     narrow                           whether it fits a screen of 375 px
//     compared                         the kind of the verdict after each of GIVEN, and after the text was changed
//     requests                         what the page asked of anybody but the file itself
//     painted, verified                milliseconds until something was shown, and until the verdict
//     plain                            text of the page without scripts
//
// It needs Node.js and Chromium, and nothing from a registry: they speak through a pipe.
"use strict";

const { spawn } = require("node:child_process");
const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");

const SHOWN = `(() => {
  const verdict = document.querySelector(".verdict");
  const text = (selector) => document.querySelector(selector)?.textContent ?? "";
  const box = verdict?.getBoundingClientRect() ?? new DOMRect();
  const above = document.elementFromPoint(box.x + box.width / 2, box.y + Math.min(20, box.height / 2));
  const style = verdict === null ? null : getComputedStyle(verdict);
  return {
    title: document.title,
    kind: verdict?.className.replace("verdict", "").trim() ?? null,
    verdict: verdict?.innerText ?? "",
    seen: box.width > 100 && box.height > 30 && verdict.contains(above),
    outline: style === null ? "" : [style.outlineStyle, style.outlineColor].join(" "),
    problems: Array.from(document.querySelectorAll(".problems li"), (one) => one.textContent),
    rows: document.querySelectorAll("tbody tr:not(.room)").length,
    bad: document.querySelectorAll("tbody tr.bad").length,
    withheld: document.querySelectorAll("tbody .withheld").length,
    numbers: text("#page section > p[role=status]"),
    elements: document.querySelectorAll("img, iframe, object, embed, link, a, form, base, svg script, main script, main style").length,
    width: document.documentElement.scrollWidth <= document.documentElement.clientWidth,
    now: performance.now(),
    painted: performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? null,
  };
})()`;

class Browser {
  constructor(profile) {
    const flags = [
      "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
      "--disable-component-update", "--disable-sync", "--remote-debugging-pipe", `--user-data-dir=${profile}`, "about:blank",
    ];
    this.process = spawn("chromium", flags, { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] });
    this.process.on("error", () => {
      console.error("'chromium' is needed: on Debian, 'apt-get install chromium'");
      process.exit(1);
    });
    this.next = 1;
    this.waiting = new Map();
    this.listeners = new Set();
    let rest = "";
    this.process.stdio[4].on("data", (data) => {
      const messages = (rest + data).split("\0");
      rest = messages.pop();
      messages.map((message) => JSON.parse(message)).forEach((message) => this.take(message));
    });
  }

  take(message) {
    const waiting = this.waiting.get(message.id);
    if (waiting === undefined) {
      this.listeners.forEach((listener) => listener(message));
      return;
    }
    this.waiting.delete(message.id);
    if (message.error) waiting.reject(new Error(message.error.message));
    else waiting.resolve(message.result);
  }

  send(method, params = {}, sessionId = undefined) {
    const id = this.next++;
    this.process.stdio[3].write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
    return new Promise((resolve, reject) => this.waiting.set(id, { resolve, reject }));
  }

  /** Waits for an event of a page. */
  event(sessionId, method) {
    return new Promise((resolve) => {
      const listener = (message) => {
        if (message.sessionId !== sessionId || message.method !== method) return;
        this.listeners.delete(listener);
        resolve(message.params);
      };
      this.listeners.add(listener);
    });
  }
}

/** Opens the rows in sight one after the other. */
const OPENED = `Array.from(document.querySelectorAll("button.open"), (button) => {
  button.click();
  const dialog = document.querySelector("dialog[open]"), box = dialog.getBoundingClientRect();
  const isWithin = box.left >= 0 && box.top >= 0 && box.right <= innerWidth && box.bottom <= innerHeight;
  const length = dialog.innerText.length;
  dialog.close();
  return { isWithin, length };
})`;

/** What the page says after a text was entered and compared. */
function comparedWith(given) {
  return `(async () => {
    const field = document.querySelector("#given");
    if (field === null) return null;
    field.value = ${JSON.stringify(given)};
    field.dispatchEvent(new Event("input"));
    document.querySelector(".compare button").click();
    while (document.querySelector(".answer").textContent === "") await new Promise((resolve) => setTimeout(resolve, 5));
    return document.querySelector(".verdict").className.replace("verdict ", "");
  })()`;
}

const CHANGED = `(() => {
  document.querySelector("#given")?.dispatchEvent(new Event("input"));
  return document.querySelector(".verdict").className.replace("verdict ", "");
})()`;

async function page(browser) {
  const { targetId } = await browser.send("Target.createTarget", { url: "about:blank" });
  const { sessionId } = await browser.send("Target.attachToTarget", { targetId, flatten: true });
  const send = (method, params) => browser.send(method, params, sessionId);
  await Promise.all([send("Page.enable"), send("Network.enable"), send("Runtime.enable")]);
  const evaluate = async (expression) => {
    const { result, exceptionDetails } = await send("Runtime.evaluate", { expression, returnByValue: true, awaitPromise: true });
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    return result.value;
  };
  return { sessionId, send, evaluate, close: () => browser.send("Target.closeTarget", { targetId }) };
}

async function open(browser, one, url) {
  const loaded = browser.event(one.sessionId, "Page.loadEventFired");
  await one.send("Page.navigate", { url });
  await loaded;
}

async function until(one, truth) {
  const limit = Date.now() + 300000;
  while (!(await one.evaluate(truth))) {
    if (Date.now() > limit) throw new Error(`not so after five minutes: ${truth}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

function size(one, width, height = 900) {
  return one.send("Emulation.setDeviceMetricsOverride", { width, height, deviceScaleFactor: 1, mobile: width < 500 });
}

async function picture(one, name, whole = false) {
  const { data } = await one.send("Page.captureScreenshot", { format: "png", captureBeyondViewport: whole });
  fs.writeFileSync(name, Buffer.from(data, "base64"));
}

async function look(browser, pictures, given, file) {
  const url = `file://${path.resolve(file)}`;
  const name = pictures === "-" ? null : path.join(pictures, path.basename(file, ".html"));
  const one = await page(browser);
  const requests = [];
  const listener = ({ sessionId, method, params }) => {
    if (sessionId === one.sessionId && method === "Network.requestWillBeSent" && params.request.url !== url) requests.push(params.request.url);
  };
  browser.listeners.add(listener);
  await size(one, 1280);
  await open(browser, one, url);
  await until(one, 'document.title !== "Evidence: verifying"');
  const shown = await one.evaluate(SHOWN);
  shown.verified = shown.now;
  shown.requests = requests;
  shown.compared = [];
  shown.opened = await one.evaluate(OPENED);
  for (const text of given) shown.compared.push(await one.evaluate(comparedWith(text)));
  if (given.length > 0) shown.compared.push(await one.evaluate(CHANGED));
  await size(one, 375, 800);
  shown.narrow = (await one.evaluate(SHOWN)).width;
  if (name !== null) {
    await picture(one, `${name}-375.png`);
    await picture(one, `${name}-375-whole.png`, true);
    await size(one, 1280);
    await picture(one, `${name}-1280.png`);
    await picture(one, `${name}-1280-whole.png`, true);
    await one.evaluate('document.querySelectorAll("button.open")[3]?.click()');
    await picture(one, `${name}-entry.png`);
    await one.evaluate('document.querySelector("dialog[open]")?.close()');
    await one.send("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value: "dark" }] });
    await picture(one, `${name}-dark.png`, true);
    await one.send("Emulation.setEmulatedMedia", { features: [] });
    const { data } = await one.send("Page.printToPDF", { printBackground: false });
    fs.writeFileSync(`${name}.pdf`, Buffer.from(data, "base64"));
  }
  await one.send("Emulation.setScriptExecutionDisabled", { value: true });
  await open(browser, one, url);
  if (name !== null) {
    await picture(one, `${name}-plain.png`);
    const { data } = await one.send("Page.printToPDF", { printBackground: false });
    fs.writeFileSync(`${name}-plain.pdf`, Buffer.from(data, "base64"));
  }
  shown.plain = await one.evaluate("document.body.innerText");
  shown.plainRows = await one.evaluate('document.querySelectorAll("tbody tr").length');
  browser.listeners.delete(listener);
  await one.close();
  return shown;
}

(async () => {
  const [pictures, given, ...files] = process.argv.slice(2);
  const profile = fs.mkdtempSync(path.join(os.tmpdir(), "evidence-browser-"));
  const browser = new Browser(profile);
  const seen = [];
  try {
    for (const file of files) seen.push(await look(browser, pictures, JSON.parse(given), file));
    console.log(JSON.stringify(seen));
  } finally {
    const ended = new Promise((resolve) => browser.process.on("exit", resolve));
    browser.process.kill();
    await ended;
    fs.rmSync(profile, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
  }
})();
