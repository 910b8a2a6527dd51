// A spec out of the form's fields, and the same request in other words.

export function gather(form) {
  const spec = {};
  const several = new Map();
  for (const control of form.querySelectorAll("[data-pointer]")) {
    const { pointer, kind } = control.dataset;
    if (kind === "several") {
      const row = several.get(pointer) ?? { chosen: [], changed: false };
      if (control.checked) row.chosen.push(control.value);
      row.changed ||= control.checked !== control.defaultChecked;
      several.set(pointer, row);
    } else {
      const value = valueOf(control, kind);
      if (value !== undefined) set(spec, pointer, value);
    }
  }
  for (const [pointer, row] of several) if (row.changed) set(spec, pointer, row.chosen);
  return spec;
}

// undefined where the field says nothing but the default.
function valueOf(control, kind) {
  if (kind === "switch") return control.checked ? true : undefined;
  if (kind === "choice") return control.selectedOptions[0]?.dataset.default === "yes" ? undefined : control.value;
  const said = control.value.trim();
  if (!said) return undefined;
  if (kind === "number") return numberOr(said);
  if (kind === "shares") {
    const row = said.split(/[\s,;]+/).filter(Boolean).map(numberOr);
    return row.length === 1 ? row[0] : row;
  }
  if (kind === "labels") {
    const pairs = said.split(",").map((pair) => pair.trim()).filter(Boolean);
    return Object.fromEntries(pairs.map((pair) => pair.split(/:(.*)/s).slice(0, 2).map((word) => (word ?? "").trim())));
  }
  return said;
}

// What is no number goes as it was typed: the service says what is wrong with it.
const numberOr = (said) => (Number.isFinite(Number(said)) ? Number(said) : said);

export function set(spec, pointer, value) {
  const path = pointer.slice(1).split("/");
  const last = path.pop();
  let at = spec;
  for (const key of path) at = at[key] ??= {};
  at[last] = value;
}

export function merge(into, more) {
  for (const [key, value] of Object.entries(more)) {
    const deep = isObject(value) && isObject(into[key]);
    if (deep) merge(into[key], value);
    else Object.defineProperty(into, key, { value, enumerable: true, configurable: true, writable: true });
  }
  return into;
}

export const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

export function asCurl(spec, origin) {
  const body = JSON.stringify(spec, null, 2).replaceAll("'", "'\\''");
  return `curl -sS ${origin}/jobs -H 'Content-Type: application/json' -d '${body}'`;
}

export function asPython(spec, origin) {
  const body = literal(spec).replaceAll("\n", "\n    ");
  return `from purlkit.client import PurlClient

with PurlClient(${JSON.stringify(origin)}) as purl:
    job = purl.submit(${body})
    job.wait()
    job.download("out/")`;
}

// JSON's strings and numbers are Python's too; its other words are not.
function literal(value, indent = "") {
  const deeper = `${indent}    `;
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (Array.isArray(value)) return `[${value.map((one) => literal(one, deeper)).join(", ")}]`;
  if (isObject(value)) {
    const rows = Object.entries(value).map(([key, one]) => `${deeper}${JSON.stringify(key)}: ${literal(one, deeper)},\n`);
    return rows.length ? `{\n${rows.join("")}${indent}}` : "{}";
  }
  return JSON.stringify(value);
}
