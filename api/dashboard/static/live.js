// Keeps a page as new as the server's: its parts are taken from a fresh copy of the page whenever something happens.
//
// <main data-events="…" data-after="7"> follows a job's stream of events, data-every="2000" also looks again after so
// many milliseconds, and each element with data-part and an id is a part.

import { ask } from "./problem.js";

const main = document.getElementById("main");
const status = document.getElementById("live");
const EVENTS = ["state", "attempt", "request", "phase", "episode", "rung", "candidate", "note"];

// Events come in bursts: the page is drawn again at most so often.
const PAUSE = 700;
const RECONNECT = 2000;
const GIVE_UP = 15000; // on one answer

const isOver = () => !main.dataset.every;

let drawing = null;
let again = false;
let due = null;
let source = null;
let seen = main.dataset.after;

function say(text, kind = "") {
  if (status.textContent !== text) status.textContent = text;
  status.dataset.kind = kind;
}

// What a reader has opened, ticked or typed stays as it is.
function carry(old, fresh) {
  for (const one of old.querySelectorAll("details[id]")) {
    const same = fresh.querySelector(`#${CSS.escape(one.id)}`);
    if (same) same.open = one.open;
  }
  for (const one of old.querySelectorAll("input[id]")) {
    const same = fresh.querySelector(`#${CSS.escape(one.id)}`);
    if (same) same.checked = one.checked;
  }
}

function put(copy) {
  document.title = copy.title;
  const fresh = copy.getElementById("main");
  if (fresh.dataset.every) main.dataset.every = fresh.dataset.every;
  else delete main.dataset.every;
  let before = null;
  for (const part of fresh.querySelectorAll("[data-part]")) {
    const old = document.getElementById(part.id);
    const now = document.importNode(part, true);
    if (!old) {
      before?.after(now);
    } else {
      carry(old, now);
      if (!old.isEqualNode(now)) {
        const focused = old.contains(document.activeElement) ? document.activeElement.id : "";
        const scrolled = [...old.querySelectorAll(".scroll, .chart")].map((one) => one.scrollLeft);
        old.replaceWith(now);
        [...now.querySelectorAll(".scroll, .chart")].forEach((one, nth) => (one.scrollLeft = scrolled[nth] ?? 0));
        if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
      }
    }
    before = document.getElementById(part.id);
  }
  for (const old of main.querySelectorAll("[data-part]")) {
    if (!fresh.querySelector(`#${CSS.escape(old.id)}`)) old.remove();
  }
}

async function draw() {
  const answer = await fetch(location.href, { signal: AbortSignal.timeout(GIVE_UP) });
  if (answer.status === 404) return location.reload(); // the job is gone, and the server has a page that says so
  if (!answer.ok) throw new Error(answer.statusText);
  put(new DOMParser().parseFromString(await answer.text(), "text/html"));
}

// One drawing at a time; what is asked for meanwhile is one more afterwards.
export async function refresh() {
  if (drawing) {
    again = true;
    return drawing;
  }
  do {
    again = false;
    drawing = draw().then(
      () => say(isOver() ? "" : "live", "on"),
      () => say("reconnecting…", "off"),
    );
    await drawing;
    await new Promise((done) => setTimeout(done, PAUSE));
    drawing = null;
  } while (again);
}

function look() {
  clearTimeout(due);
  if (isOver()) return;
  due = setTimeout(async () => {
    if (!document.hidden) await refresh();
    look();
  }, Number(main.dataset.every));
}

// The browser itself connects again, with Last-Event-ID; it gives up where the answer was no stream. It keeps few
// connections to one host, so a tab that nobody sees has none.
function follow() {
  source?.close();
  source = null;
  if (!main.dataset.events || isOver() || document.hidden) return;
  const ours = (source = new EventSource(`${main.dataset.events}?after=${seen}`));
  ours.addEventListener("open", refresh);
  ours.addEventListener("error", () => {
    if (ours.readyState !== EventSource.CLOSED) return say("reconnecting…", "off");
    refresh().then(() => setTimeout(() => ours === source && follow(), RECONNECT));
  });
  for (const type of EVENTS) {
    ours.addEventListener(type, (event) => {
      seen = event.lastEventId;
      refresh();
    });
  }
}

async function move(button) {
  if (button.dataset.ask && !confirm(button.dataset.ask)) return;
  const notice = document.getElementById("notice");
  button.disabled = true;
  try {
    const job = await ask(button.dataset.post, { method: "POST" });
    notice.hidden = true;
    if (button.dataset.go) location.assign(button.dataset.go + job.id);
  } catch (problem) {
    notice.textContent = problem.message;
    notice.hidden = false;
  }
  button.disabled = false;
  refresh();
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-post]");
  if (button) move(button);
});
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && !isOver()) refresh();
  follow();
});
addEventListener("online", refresh);

follow();
look();
if (!isOver()) say("live", "on");
