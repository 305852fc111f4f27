// The page of `curette review`: shows one item, takes the rating by key or click, and goes on when the server has it on its disk.
"use strict";

const TAG_KEYS = "asdfghjkzxcvb";
const PAIR_KEYS = ["qwe", "asd", "zxc"];
const SEEK_SECONDS = 2;
const $ = (id) => document.getElementById(id);

let session = null;
let at = 0; // place in this rater's order
let item = null;
let tags = new Set();
let busy = false;

function make(name, properties = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (key === "class") node.className = value;
    else if (key in node && key !== "list") node[key] = value;
    else node.setAttribute(key, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

const words = (name) => name.replaceAll("_", " ");

function complain(text) {
  $("error").textContent = text;
  $("error").hidden = !text;
}

async function ask(path, body) {
  const options = body === undefined ? {} : { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
  let response;
  try {
    response = await fetch(path, { cache: "no-store", ...options });
  } catch (_) {
    throw new Error("The review server does not answer. Is `curette review` still running? Nothing that was saved is lost.");
  }
  const text = await response.text();
  let value = null;
  try { value = JSON.parse(text); } catch (_) { /* told below */ }
  if (!response.ok) throw new Error((value && value.error) || text.trim() || `the server says ${response.status}`);
  return value;
}

function progress() {
  const done = session.items.filter((one) => one.done).length;
  const all = session.items.length;
  $("bar").style.width = `${(100 * done) / all}%`;
  $("count").textContent = `${done} of ${all} rated`;
  const bar = document.querySelector(".progress");
  bar.setAttribute("aria-valuenow", done);
  bar.setAttribute("aria-valuemax", all);
}

// The first open item from a place on, around the end; -1 when all are rated.
function open(from) {
  const n = session.items.length;
  for (let step = 0; step < n; step++) {
    const place = (from + step) % n;
    if (!session.items[place].done) return place;
  }
  return -1;
}

function player(media, label) {
  const figure = make("figure", {});
  if (media.kind === "picture") {
    figure.append(make("img", { src: media.url, alt: "what is rated" }));
  } else {
    const start = media.start ?? 0;
    const end = media.end ?? Infinity;
    const video = make("video", { controls: true, muted: true, autoplay: true, loop: media.end === null, playsInline: true, preload: "auto" });
    video.addEventListener("loadedmetadata", () => { if (start > 0) video.currentTime = start; });
    video.addEventListener("timeupdate", () => {
      // A part of a longer video: again from its beginning. Someone who seeks behind it on purpose and pauses is left alone.
      if (video.currentTime >= end && !video.paused) video.currentTime = start;
    });
    video.addEventListener("error", async () => {
      if (!video.isConnected) return;
      let why = "This browser cannot play the clip.";
      try {
        const answer = await fetch(media.url, { headers: { range: "bytes=0-0" } });
        if (!answer.ok) why = (await answer.text()).trim();
      } catch (_) { why = "The review server does not answer."; }
      video.replaceWith(make("p", { class: "trouble" }, why));
    });
    video.src = media.url;
    figure.append(video);
  }
  if (label) figure.append(make("figcaption", {}, label));
  return figure;
}

function card(title, kind, ...children) {
  return make("section", { class: `card ${kind}` }, make("h2", {}, title), ...children);
}

function shown(value) {
  if (typeof value !== "number") return String(value);
  return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(5)));
}

function facts() {
  const side = $("facts");
  side.replaceChildren();
  if (item.outcome === "kept") side.append(card("Outcome", "kept", make("p", {}, `kept by ${session.stage}`)));
  if (item.outcome === "rejected") {
    const reason = item.reason;
    side.append(card("Outcome", "rejected", make("p", {}, `dropped by ${session.stage}: ${words(reason.code)}`), make("p", {}, reason.message)));
  }
  if (item.texts.length) {
    side.append(card("Text", "", ...item.texts.map(([name, text]) => make("p", {}, make("span", { class: "of" }, words(name)), text))));
  }
  if (item.transcript) side.append(card("Transcript", "", make("p", {}, item.transcript)));
  if (item.values.length) {
    const rows = item.values.map(([name, value]) => make("tr", {}, make("th", { scope: "row" }, words(name)), make("td", {}, shown(value))));
    side.append(card("Values", "", make("table", {}, make("tbody", {}, ...rows))));
  }
}

function mine(dimension) {
  return item.mine.find((one) => (one.dimension ?? null) === dimension);
}

const LOOKS = { 2: ["good", "bad"], 3: ["good", "middle", "bad"], 4: ["good", "good", "middle", "bad"] };

function choices() {
  const pairs = session.dimensions.length > 0;
  const looks = session.mode === "label" || pairs ? [] : LOOKS[session.labels.length] ?? [];
  const rows = (pairs ? session.dimensions : [null]).map((dimension, row) => {
    const given = mine(dimension);
    const buttons = session.labels.map((label, column) => {
      const key = pairs ? PAIR_KEYS[row][column] : String(column + 1);
      const properties = { type: "button", class: looks[column] ?? "", onclick: () => rate(label, dimension) };
      const button = make("button", properties, make("kbd", {}, key), " ", words(label));
      button.setAttribute("aria-pressed", String(given !== undefined && given.label === label));
      button.dataset.label = label;
      return button;
    });
    return make("div", { class: "choice", role: "group" }, dimension ? make("span", { class: "about" }, words(dimension)) : null, ...buttons);
  });
  $("choices").replaceChildren(...rows);
}

function tagButtons() {
  const buttons = session.tags.map((tag, place) => {
    const button = make("button", { type: "button", onclick: () => toggle(tag) }, make("kbd", {}, TAG_KEYS[place] ?? ""), " ", words(tag));
    button.setAttribute("aria-pressed", String(tags.has(tag)));
    button.dataset.tag = tag;
    return button;
  });
  $("tags").replaceChildren(...buttons);
}

function toggle(tag) {
  if (tags.has(tag)) tags.delete(tag);
  else tags.add(tag);
  tagButtons();
}

async function show(place) {
  const wanted = session.items[place].item;
  const found = await ask(`api/item/${wanted}`);
  at = place;
  item = found;
  const given = item.mine[0];
  tags = new Set(given ? given.tags : []);
  $("note").value = (given && given.note) || "";
  $("end").hidden = true;
  $("work").hidden = false;
  $("saved").textContent = "";
  const pairs = session.dimensions.length > 0;
  const label = (side) => (pairs ? ["left", "right"][side] : "");
  const figures = item.media.map((media, side) => player(media, label(side)));
  $("stage").replaceChildren(...(figures.length ? figures : [make("p", { class: "nothing" }, "There is no clip to show: no table says where it lies.")]));
  choices();
  tagButtons();
  facts();
  document.title = `${place + 1} / ${session.items.length} · curette review`;
  $("about").textContent = [session.stage === "files" ? "" : `stage ${session.stage}`, `rater ${session.rater}`, item.name].filter(Boolean).join(" · ");
}

async function ended() {
  $("stage").replaceChildren();
  $("work").hidden = true;
  $("end").hidden = false;
  $("ending").textContent = "Your ratings are saved. Putting them into the table…";
  document.title = "Done · curette review";
  await ask("api/finish", {});
  $("ending").textContent = "Your ratings are saved and stand in the table. You may close this page.";
}

// One thing at a time: a second key while a rating is on its way is not taken for the next item's.
async function alone(work) {
  if (busy) return;
  busy = true;
  try {
    await work();
    complain("");
  } catch (error) {
    complain(error.message);
  } finally {
    busy = false;
  }
}

function rate(label, dimension) {
  return alone(async () => {
    const note = $("note").value.trim();
    const said = { item: item.item, dimension, label, tags: [...tags], note: note || null };
    $("saved").textContent = "saving…";
    try {
      await ask("api/rating", said);
    } catch (error) {
      $("saved").textContent = "not saved";
      throw error;
    }
    item.mine = item.mine.filter((one) => (one.dimension ?? null) !== dimension);
    item.mine.push({ dimension, label, tags: [...tags], note: note || null });
    session.items[at].done = item.mine.length >= Math.max(1, session.dimensions.length);
    progress();
    choices();
    $("saved").textContent = "saved";
    if (!session.items[at].done) return;
    const next = open(at + 1);
    if (next < 0) await ended();
    else await show(next);
  });
}

function move(step) {
  return alone(async () => {
    const n = session.items.length;
    await show((at + step + n) % n);
  });
}

function videos() {
  return [...document.querySelectorAll("video")];
}

function keyed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || session === null || item === null) return;
  if (event.target === $("note")) {
    if (event.key === "Enter" || event.key === "Escape") $("note").blur();
    return;
  }
  if ($("work").hidden) return;
  const key = event.key.toLowerCase();
  const pairs = session.dimensions.length > 0;
  const row = pairs ? PAIR_KEYS.findIndex((keys) => keys.includes(key)) : -1;
  const label = pairs ? null : session.labels[Number(key) - 1];
  const tag = pairs ? undefined : session.tags[TAG_KEYS.indexOf(key)];
  if (row >= 0 && row < session.dimensions.length) rate(session.labels[PAIR_KEYS[row].indexOf(key)], session.dimensions[row]);
  else if (key.length === 1 && key >= "1" && key <= "9" && label !== undefined && label !== null) rate(label, null);
  else if (key.length === 1 && tag !== undefined) toggle(tag);
  else if (key === "n") $("note").focus();
  else if (key === "arrowright") move(1);
  else if (key === "arrowleft") move(-1);
  else if (key === " ") {
    const all = videos();
    const playing = all.some((video) => !video.paused);
    all.forEach((video) => (playing ? video.pause() : video.play().catch(() => {})));
  } else if (key === "," || key === ".") {
    const step = key === "," ? -SEEK_SECONDS : SEEK_SECONDS;
    videos().forEach((video) => (video.currentTime = Math.max(0, video.currentTime + step)));
  } else return;
  event.preventDefault();
}

async function start() {
  session = await ask("api/session");
  $("question").textContent = session.question;
  $("about").textContent = `rater ${session.rater}`;
  if (!session.tags.length) $("tags").hidden = true;
  const keys = [["space", "play"], [", .", `${SEEK_SECONDS} s back and on`], ["← →", "other items"], ["n", "note"]];
  $("keys").replaceChildren(...keys.flatMap(([key, what]) => [make("kbd", {}, key), ` ${what}   `]));
  $("previous").addEventListener("click", () => move(-1));
  $("next").addEventListener("click", () => move(1));
  $("again").addEventListener("click", () => alone(() => show(0)));
  document.addEventListener("keydown", keyed, true);
  progress();
  if (session.notes.length) console.info(session.notes.join("\n"));
  const next = open(0);
  if (next < 0) await ended();
  else await show(next);
}

alone(start);
