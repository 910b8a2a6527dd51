// A request to the API: its answer, or an error with the problem's own words.

export class Problem extends Error {
  constructor(said, answer) {
    super(said.detail ?? `the service answered ${answer.status}`);
    this.code = said.code ?? "";
    this.errors = said.errors ?? [];
    this.retryAfter = Number(answer.headers.get("Retry-After")) || 0;
  }
}

export async function ask(address, options) {
  let answer;
  try {
    answer = await fetch(address, options);
  } catch {
    throw new Error("The service does not answer: is it running? Try again in a moment.");
  }
  const said = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Problem(said, answer);
  return said;
}
