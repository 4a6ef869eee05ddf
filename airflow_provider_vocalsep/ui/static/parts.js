// What several views show.

import { fill, h, icon } from "./dom.js";
import { ago, exact, logInAirflow, mapped, number } from "./format.js";

export const STATES = ["landed", "waiting", "failed", "left", "planned"];

export const WORDS = {
  landed: "Landed", waiting: "Waiting", failed: "Failed", left: "Left", planned: "Planned", tracks: "Tracks",
  in_doubt: "In doubt",
};

export const HINTS = {
  landed: "Stems and manifest are in the bucket",
  waiting: "Paid for; the vendor has not finished",
  in_doubt: "The answer to its submit was lost; its callback is awaited",
  failed: "It failed; the message says why",
  left: "Not claimed: the credits were used up",
  planned: "Not processed yet",
};

/** Tell screen readers what changed. */
export function say(words) {
  fill(document.getElementById("said"), words);
}

export function showTrouble(words) {
  const box = document.getElementById("trouble");
  fill(box, ...[words].flat().filter(Boolean).map((line) => h("p", {}, line)));
}

/** Breadcrumbs; the last one is where we are. */
export function crumbs(...steps) {
  const items = steps.map(([words, url], place) => {
    const here = place === steps.length - 1;
    const name = h("bdi", {}, words);
    return h("li", {}, here ? h("span", { "aria-current": "page", title: words }, name) : h("a", { href: url, title: words }, name));
  });
  fill(document.getElementById("crumbs"), ...items);
  document.title = `${steps.at(-1)[0]} · Vocal separation`;
}

export function badge(state, words = WORDS[state] ?? state, hint = HINTS[state]) {
  return h("span", { class: "badge", "data-state": state, title: hint }, words);
}

export function when(milliseconds) {
  return h("time", { datetime: new Date(milliseconds).toISOString(), title: exact(milliseconds), class: "ago" }, ago(milliseconds));
}

// "2 min. ago" grows old by itself.
setInterval(() => {
  for (const time of document.querySelectorAll("time.ago")) fill(time, ago(Date.parse(time.dateTime)));
}, 10000);

/** A bar in which each state has its share. */
export function bar() {
  const parts = Object.fromEntries(STATES.map((state) => [state, h("span", { "data-state": state })]));
  const element = h("div", { class: "bar", role: "img" }, ...Object.values(parts));
  return {
    element,
    update(run) {
      const rest = rested(run);
      for (const state of STATES) {
        parts[state].style.flexGrow = rest[state];
        parts[state].hidden = !rest[state];
      }
      const said = STATES.filter((state) => rest[state]).map((state) => `${number(rest[state])} ${WORDS[state].toLowerCase()}`);
      element.setAttribute("aria-label", `${number(run.tracks)} tracks: ${said.join(", ") || "none"}`);
    },
  };
}

/** Counts by state, with the tracks that no report has yet. */
export function rested(run) {
  const { landed, waiting, failed, left } = run;
  return { landed, waiting, failed, left, planned: Math.max(0, run.tracks - landed - waiting - failed - left) };
}

/** Whether a run can still change. */
export const goesOn = (airflow, run) => (airflow ? ["queued", "running"].includes(airflow.state) : !run?.concluded);

/** A link out of the frame: Airflow's sandbox lets nobody out, so the page around us follows it. */
export function outside(url, options, ...children) {
  function follow(event) {
    if (window.parent === window) return;
    let link;
    try {
      link = window.parent.document.createElement("a");
    } catch {
      return;
    }
    event.preventDefault();
    link.href = new URL(url, location.href).href;
    if (options.download) link.download = "";
    if (event.ctrlKey || event.metaKey || event.button === 1) link.target = "_blank";
    link.click();
  }
  return h("a", { href: url, target: "_top", ...options, on: { click: follow, auxclick: follow } }, ...children);
}

export function logLink(who, words = `${who.task_id}${mapped(who)}`) {
  return outside(logInAirflow(who), { class: "log", title: "Open the task's log" }, icon("log"), h("span", {}, words));
}

/** A button that copies text. */
export function copier(text, what) {
  const button = h("button", { type: "button", class: "quiet-button", title: `Copy ${what}`, "aria-label": `Copy ${what}` }, icon("copy"));
  button.addEventListener("click", async () => {
    let copied = true;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      copied = copyOld(text); // not in a frame without permission, nor on plain HTTP
    }
    say(copied ? `Copied ${what}.` : "The browser did not allow copying.");
    button.dataset.done = copied;
    setTimeout(() => delete button.dataset.done, 1500);
    button.focus();
  });
  return button;
}

function copyOld(text) {
  const area = h("textarea", { class: "unseen", "aria-hidden": "true" });
  area.value = text;
  document.body.append(area);
  area.select();
  const copied = document.execCommand("copy");
  area.remove();
  return copied;
}

export function empty(headline, ...lines) {
  return h("section", { class: "empty" }, h("h2", {}, headline), ...lines.map((line) => h("p", {}, line)));
}

/** Buttons for the pages of a list. */
export function pager(go) {
  const words = h("span", {});
  const back = h("button", { type: "button", on: { click: () => go(-1) } }, "Previous");
  const forth = h("button", { type: "button", on: { click: () => go(1) } }, "Next");
  const element = h("nav", { class: "pager", "aria-label": "Pages" }, words, back, forth);
  return {
    element,
    update({ offset, total, page_size }) {
      element.hidden = total <= page_size && !offset;
      fill(words, `${number(Math.min(offset + 1, total))}–${number(Math.min(offset + page_size, total))} of ${number(total)}`);
      back.disabled = !offset;
      forth.disabled = offset + page_size >= total;
    },
  };
}
