// The page of `curette review` in Chromium. Started by scripts/review-browser-test with: program, work folder, browser, folder for screenshots, cache.
import assert from "node:assert/strict";
import { spawn, execFileSync } from "node:child_process";
import { copyFileSync, mkdirSync, readdirSync } from "node:fs";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import path from "node:path";

const [program, work, browserPath, shots, cache] = process.argv.slice(2);
const { chromium } = createRequire(path.join(cache, "node_modules", "x.js"))("playwright-core");
const output = path.join(work, "out");

async function review(place, ...more) {
  const child = spawn(program, ["review", place, "--format", "json", ...more], { stdio: ["ignore", "pipe", "inherit"] });
  const lines = createInterface({ input: child.stdout });
  const { value } = await lines[Symbol.asyncIterator]().next();
  const said = JSON.parse(value);
  const ended = new Promise((resolve) => child.on("exit", (code) => resolve(code)));
  const links = Object.fromEntries(said.raters.map((rater) => [rater.rater, rater.url]));
  return { links, items: said.items, stop: async () => (child.kill("SIGTERM"), assert.equal(await ended, 0)) };
}

const audit = (...more) => JSON.parse(execFileSync(program, ["audit", "results", output, "--format", "json", ...more]).toString());
const done = async (page) => Number((await page.textContent("#count")).split(" ")[0]);
const saved = (page, n) => page.waitForFunction((n) => document.querySelector("#count").textContent.startsWith(`${n} of`), n);

const browser = await chromium.launch({ executablePath: browserPath, args: ["--no-sandbox", "--autoplay-policy=no-user-gesture-required"] });
const problems = [];
async function open(url, viewport, colorScheme = "light") {
  const context = await browser.newContext({ viewport, colorScheme });
  const page = await context.newPage();
  page.on("pageerror", (error) => problems.push(String(error)));
  page.on("console", (message) => message.type() === "error" && problems.push(`${message.text()} ${message.location().url}`));
  page.on("request", (request) => request.url().startsWith(new URL(url).origin) || problems.push(`asks elsewhere: ${request.url()}`));
  await page.goto(url);
  await page.waitForSelector("#work:not([hidden])");
  return page;
}
const shoot = (page, name, fullPage = false) => page.screenshot({ path: path.join(shots, `${name}.png`), fullPage });
const desktop = { width: 1440, height: 900 };
const narrow = { width: 390, height: 844 };

try {
  const server = await review(output, "--stage", "no_borders", "--n", "6", "--rejected", "2", "--rater", "anna", "--rater", "ben");
  assert.ok(server.items >= 4, `${server.items} items`);
  const page = await open(server.links.anna, desktop);

  // It plays and seeks, by ranges.
  await page.waitForFunction(() => { const v = document.querySelector("video"); return v && v.readyState >= 2 && v.videoWidth > 0; });
  const first = await page.evaluate(() => document.querySelector("video").currentTime);
  await page.waitForFunction((from) => document.querySelector("video").currentTime > from + 0.3, first);
  await page.keyboard.press(" ");
  await page.waitForFunction(() => document.querySelector("video").paused);
  const before = await page.evaluate(() => document.querySelector("video").currentTime);
  await page.keyboard.press(".");
  await page.waitForFunction((from) => { const v = document.querySelector("video"); return !v.seeking && v.currentTime > from + 1; }, before);
  await shoot(page, "audit-desktop");

  // Tags and a note, then a rating: the next item comes by itself.
  await page.keyboard.press("a");
  assert.equal(await page.getAttribute('[data-tag="border"]', "aria-pressed"), "true");
  await page.keyboard.press("n");
  await page.keyboard.type("1 2 a border?");
  await page.keyboard.press("Enter");
  assert.equal(await done(page), 0, "what is typed into the note rates nothing");
  const title = await page.title();
  await page.keyboard.press("2");
  await saved(page, 1);
  await page.waitForFunction((title) => document.title !== title, title);

  // A reload loses nothing and goes on where it was.
  await page.reload();
  await saved(page, 1);
  await page.keyboard.press("ArrowLeft");
  await page.waitForSelector('[data-label="slightly_noisy"][aria-pressed="true"]');
  assert.equal(await page.inputValue("#note"), "1 2 a border?");
  await shoot(page, "audit-rated-desktop");
  const other = await open(server.links.ben, narrow);
  assert.equal(await done(other), 0, "another rater sees nothing of it");
  await other.waitForFunction(() => document.querySelector("video")?.readyState >= 2);
  assert.equal(await other.evaluate(() => document.documentElement.scrollWidth > innerWidth), false, "nothing is cut off on a narrow page");
  await shoot(other, "audit-narrow", true);

  // To the end, dropped clips too.
  let rejected = 0;
  for (let n = 1; n < server.items; n++) {
    if (n === 1) await page.keyboard.press("ArrowRight");
    await page.waitForFunction(() => document.querySelector('#work:not([hidden]) [aria-pressed="true"][data-label]') === null);
    if (await page.locator(".card.rejected").count()) {
      rejected++;
      await page.waitForFunction(() => document.querySelector("video")?.readyState >= 2);
      await shoot(page, "audit-dropped-desktop");
    }
    await page.keyboard.press(rejected && (await page.locator(".card.rejected").count()) ? "3" : "1");
    await saved(page, n + 1);
  }
  assert.ok(rejected > 0, "dropped clips were shown");
  await page.waitForSelector("#end:not([hidden])");
  await page.waitForFunction(() => document.querySelector("#ending").textContent.includes("stand in the table"));
  await shoot(page, "audit-end-desktop");
  const found = audit("--stage", "no_borders");
  const kept = found.find((one) => one.outcome === "kept");
  assert.deepEqual(kept.raters, { anna: kept.items });
  assert.equal(kept.acceptable.hits, kept.items);
  assert.equal(found.find((one) => one.outcome === "rejected").items, rejected);
  await server.stop();

  // A server that is gone is told, and nothing moves on.
  await other.keyboard.press("1");
  await other.waitForSelector("#error:not([hidden])");
  assert.equal(await done(other), 0);
  problems.splice(0, problems.length, ...problems.filter((text) => !text.includes("ERR_CONNECTION_REFUSED")));

  const dark = await review(output, "--stage", "cut", "--mode", "caption", "--n", "3", "--rater", "anna");
  const captions = await open(dark.links.anna, desktop, "dark");
  await captions.waitForFunction(() => document.querySelector("video")?.readyState >= 2);
  await shoot(captions, "caption-dark");
  await dark.stop();

  // Pairs of generated videos.
  const [ours, theirs] = ["ours", "theirs"].map((name) => path.join(work, name));
  const videos = readdirSync(path.join(work, "sample/train")).filter((name) => name.endsWith(".mp4")).sort().slice(0, 3);
  [ours, theirs].forEach((folder) => mkdirSync(folder));
  videos.forEach((name, i) => {
    copyFileSync(path.join(work, "sample/train", name), path.join(ours, `The short video shows a beating heart, seen from side ${i}.mp4`));
    copyFileSync(path.join(work, "sample/train", videos[(i + 1) % 3]), path.join(theirs, `The short video shows a beating heart, seen from side ${i}.mp4`));
  });
  const pairs = await review(ours, "--mode", "pairwise", "--against", `baseline=${theirs}`, "--out", output, "--rater", "doctor");
  const vote = await open(pairs.links.doctor, desktop);
  await vote.waitForFunction(() => [...document.querySelectorAll("video")].length === 2 && [...document.querySelectorAll("video")].every((v) => v.readyState >= 2));
  assert.ok(!(await vote.content()).includes("baseline"), "the models have no names");
  await vote.keyboard.press("q");
  await vote.waitForSelector('.choice:nth-child(1) [data-label="left"][aria-pressed="true"]');
  await shoot(vote, "pairwise-desktop");
  assert.equal(await done(vote), 0, "three dimensions make a vote");
  await vote.keyboard.press("s");
  await vote.waitForSelector('.choice:nth-child(2) [data-label="both_loss"][aria-pressed="true"]');
  await vote.keyboard.press("c");
  await saved(vote, 1);
  const small = await open(pairs.links.doctor, narrow, "dark");
  await small.waitForFunction(() => document.querySelector("video")?.readyState >= 2);
  await shoot(small, "pairwise-narrow-dark", true);
  await pairs.stop();
  assert.deepEqual(problems, []);
  console.log("1 passed, 0 failed");
} finally {
  await browser.close();
}
