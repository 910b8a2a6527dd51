// What a dry run found, as text in a page: no word of it is ever HTML.

function el(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

const count = (value) => value.toLocaleString("en");
const percent = (value) => `${(100 * value).toPrecision(4).replace(/\.?0+$/, "")} %`;

function table(headings, rows, label) {
  const head = el("tr", {}, ...headings.map((text, nth) => el("th", { scope: "col", class: nth ? "number" : "" }, text)));
  const body = rows.map(([first, ...rest]) =>
    el("tr", {}, el("th", { scope: "row" }, first), ...rest.map((text) => el("td", { class: "number" }, text))),
  );
  const made = el("table", {}, el("thead", {}, head), el("tbody", {}, ...body));
  return el("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": label }, made);
}

export function showCheck(place, report) {
  const facts = [];
  const fact = (name, value) => value !== null && facts.push(el("div", {}, el("dt", {}, name), el("dd", {}, value)));
  fact("layers", report.layers.length ? count(report.layers.length) : null);
  fact("prunable weights", report.prunable_weights === null ? null : count(report.prunable_weights));
  const range = report.sparsity_range;
  fact("reachable sparsity", range === null ? null : `${percent(range[0])} to ${percent(range[1])}`);
  fact("steps of the search", report.steps === null ? null : count(report.steps));
  const memory = report.memory_bytes;
  fact("memory of a runner", memory === null ? null : `about ${count(Math.ceil(memory / 1e6))} MB`);
  const verdict = report.runnable ? "It can run." : "It can't run as it is.";
  const open = place.querySelector("details")?.open ?? false;
  const parts = [el("p", { class: report.runnable ? "good" : "error" }, verdict)];
  if (report.reasons.length) {
    parts.push(el("ul", {}, ...report.reasons.map((one) => el("li", {}, one.at ? `${one.at}: ${one.message}` : one.message))));
  }
  if (facts.length) parts.push(el("dl", { class: "numbers" }, ...facts));
  if (report.costs.length) {
    const rows = report.costs.map((one) => [one.phase, count(one.images), one.device_hours.toPrecision(2)]);
    parts.push(table(["Cost, estimated", "Images", "Device-hours"], rows, "Estimated cost"));
  }
  if (report.layers.length) {
    const rows = report.layers.map((one) => [one.name, one.kind, one.shape.join(" × "), count(one.weights)]);
    const details = el("details", {}, el("summary", {}, "Layers"), table(["Layer", "Kind", "Shape", "Weights"], rows, "Layers"));
    details.open = open;
    parts.push(details);
  }
  place.replaceChildren(...parts);
}
