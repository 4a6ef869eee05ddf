// Requests to the server, repeated while the page is visible.

const EVERY = 2000;
const SLOWEST = 30000;

export class Refused extends Error {
  constructor(status, words) {
    super(words);
    this.status = status;
  }
}

async function ask(url, etag) {
  let answer;
  try {
    answer = await fetch(url, { cache: "no-store", headers: etag ? { "If-None-Match": etag } : {} });
  } catch {
    throw new Refused(0, "Airflow's API server does not answer. Trying again…");
  }
  if (answer.status === 304) return null;
  if (!answer.ok) {
    const said = await answer.json().catch(() => ({}));
    throw new Refused(answer.status, typeof said.detail === "string" ? said.detail : `Airflow answers ${answer.status}.`);
  }
  return { data: await answer.json(), etag: answer.headers.get("ETag") };
}

/**
 * Show what a URL returns, and poll it until `stop()`. Pauses while the page is hidden.
 *
 * @param {() => string} urlOf
 * @param {(data) => (boolean|void)} show returns `false` when nothing more can come
 * @param {(error: Refused|null) => void} trouble
 */
export function follow(urlOf, show, trouble) {
  let etag = null;
  let asked = null;
  let timer = 0;
  let failures = 0;
  let over = false;
  let turn = 0;

  async function step() {
    clearTimeout(timer);
    const mine = ++turn;
    const url = urlOf();
    if (url !== asked) [asked, etag] = [url, null];
    try {
      const answer = await ask(url, etag);
      if (mine !== turn) return;
      failures = 0;
      trouble(null);
      if (answer) {
        etag = answer.etag;
        over = show(answer.data) === false;
      }
    } catch (error) {
      if (mine !== turn) return;
      if (!(error instanceof Refused)) throw error;
      failures += 1;
      trouble(error);
      if ([401, 403].includes(error.status)) return;
    }
    plan();
  }

  function plan() {
    if (!document.hidden && !over) timer = setTimeout(step, Math.min(EVERY * 2 ** failures, SLOWEST));
  }

  document.addEventListener("visibilitychange", () => {
    clearTimeout(timer);
    if (!document.hidden && !over) step();
  });
  step();
  return { again: () => { over = false; return step(); }, stop: () => { over = true; clearTimeout(timer); turn++; } };
}
