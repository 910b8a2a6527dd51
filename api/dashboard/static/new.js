// The form of a new job: as it is filled in it is tried out, and said in other words.

import { ask, Problem } from "./problem.js";
import { showCheck } from "./check.js";
import { asCurl, asPython, gather, isObject, merge, set } from "./spec.js";

const form = document.getElementById("job");
const weights = document.getElementById("weights");
const sha256 = document.getElementById("sha256");
const more = document.getElementById("more");
const check = document.getElementById("check");
const refusal = document.getElementById("refusal");

const TYPING = 600; // a pause in typing so long, and the dry run begins

let typing = null;
let checking = false;
let changed = false;
let key = { of: "", value: "" };

function spec() {
  const said = gather(form);
  const none = weights.value === "uploaded" && !sha256.value.trim();
  document.getElementById("weights-error").textContent = none ? "Choose a file, or give the sha256 of an upload." : "";
  if (none) return null;
  if (weights.value !== "train") {
    set(said, "/model/weights", weights.value === "pretrained" ? "pretrained" : { sha256: sha256.value.trim() });
  }
  const error = document.getElementById("more-error");
  error.textContent = "";
  if (more.value.trim()) {
    try {
      const further = JSON.parse(more.value);
      if (!isObject(further)) throw new SyntaxError("an object in braces is wanted");
      merge(said, further);
    } catch (problem) {
      error.textContent = `This is not JSON: ${problem.message}`;
      return null;
    }
  }
  return said;
}

function clearErrors() {
  refusal.textContent = "";
  for (const one of form.querySelectorAll("[data-error]")) one.textContent = "";
  for (const one of form.querySelectorAll("[aria-invalid]")) one.removeAttribute("aria-invalid");
}

// Each at its field; what is about none of them below the form.
function showErrors(errors, otherwise) {
  const rest = [];
  for (const { pointer, at, message } of errors) {
    const about = pointer ?? at ?? "";
    const place = [...form.querySelectorAll("[data-error]")]
      .filter((one) => about === one.dataset.error || about.startsWith(`${one.dataset.error}/`))
      .sort((one, other) => other.dataset.error.length - one.dataset.error.length)[0];
    if (!place) {
      rest.push(about ? `${about}: ${message}` : message);
      continue;
    }
    place.textContent = message;
    place.closest("details").open = true;
    place.parentElement.querySelector("input, select, textarea")?.setAttribute("aria-invalid", "true");
  }
  refusal.textContent = errors.length ? rest.join("; ") : otherwise;
}

async function tryOut() {
  if (checking) {
    changed = true;
    return;
  }
  const said = spec();
  if (!said) return;
  checking = true;
  changed = false;
  check.setAttribute("aria-busy", "true");
  let wait = 0;
  try {
    const report = await ask("/jobs?dry_run=true", request(said));
    if (!changed) {
      clearErrors();
      showErrors(report.reasons, "");
      showCheck(check, report);
    }
  } catch (problem) {
    if (problem instanceof Problem && problem.retryAfter) wait = problem.retryAfter * 1000;
    if (!changed) {
      clearErrors();
      if (problem instanceof Problem && problem.errors.length) showErrors(problem.errors, problem.message);
      check.replaceChildren(Object.assign(document.createElement("p"), { textContent: problem.message }));
    }
  }
  checking = false;
  check.removeAttribute("aria-busy");
  if (changed || wait) later(wait || TYPING);
}

function later(milliseconds) {
  clearTimeout(typing);
  typing = setTimeout(tryOut, milliseconds);
}

function request(said, headers = {}) {
  return { method: "POST", headers: { "Content-Type": "application/json", ...headers }, body: JSON.stringify(said) };
}

// The same form sent twice makes one job, also where the first answer was lost.
function keyOf(said) {
  const of = JSON.stringify(said);
  if (key.of !== of) {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    key = { of, value: `dashboard-${[...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("")}` };
  }
  return key.value;
}

function heed() {
  document.getElementById("upload").hidden = weights.value !== "uploaded";
  const said = spec();
  if (!said) return;
  document.getElementById("curl").textContent = asCurl(said, location.origin);
  document.getElementById("python").textContent = asPython(said, location.origin);
  changed = true;
  later(TYPING);
}

form.addEventListener("input", heed);
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const said = spec();
  if (!said) return;
  const button = document.getElementById("submit");
  button.disabled = true;
  try {
    const job = await ask("/jobs", request(said, { "Idempotency-Key": keyOf(said) }));
    location.assign(`/ui/jobs/${job.id}`);
  } catch (problem) {
    clearErrors();
    showErrors(problem.errors ?? [], problem.message);
    button.disabled = false;
    form.querySelector("[aria-invalid]")?.focus();
  }
});

document.getElementById("file").addEventListener("change", async (event) => {
  const [file] = event.target.files;
  if (!file) return;
  const told = document.getElementById("uploading");
  told.textContent = `uploading ${file.name} …`;
  try {
    const headers = { "Content-Type": "application/octet-stream" };
    const stored = await ask("/weights", { method: "POST", headers, body: file });
    sha256.value = stored.sha256;
    told.textContent = `${file.name} is here: ${stored.tensors} tensors`;
    heed();
  } catch (problem) {
    told.textContent = problem.message;
  }
});

heed();
