// One track: its stems, its history, its objects.

import { fill, h } from "./dom.js";
import { address, bytes, counted, exact, number } from "./format.js";
import { follow } from "./live.js";
import { badge, copier, crumbs, empty, logLink, say, showTrouble, WORDS } from "./parts.js";
import { player } from "./player.js";

const EVENTS = {
  claimed: ["Claimed, before anything was paid", "begin"],
  submitted: ["Submitted; the vendor accepted", "paid"],
  adopted: ["Paid task adopted from the vendor's callback", "paid"],
  attached: ["Attached to the task that is paid for", "quiet"],
  waited: ["Waited", "quiet"],
  called_back: ["The vendor called back", "begin"],
  separated: ["The vendor has finished", "begin"],
  landed: ["Stems landed", "good"],
  skipped: ["Had landed already; nothing was done or paid", "quiet"],
  submit_lost: ["The answer to the submit was lost", "doubt"],
  submit_given_up: ["The lost submit was given up", "doubt"],
  submit_refused: ["The vendor refused the submit; nothing was paid", "bad"],
  landing_failed: ["Landing failed", "bad"],
  failed: ["The vendor's task failed", "bad"],
};

export function showTrack(main, asked) {
  const { dag_id, run_id, task_id, track } = asked;
  const query = { dag_id, run_id, task_id, map_index: asked.map_index ?? -1, track };
  const run = [`${dag_id} · ${run_id}`, address("run", { dag_id, run_id })];
  crumbs(["Runs", "."], run, [track ?? "Track"]);
  const title = h("h1", {});
  const facts = h("dl", { class: "facts" });
  const problems = h("div", { class: "problems" });
  const stems = h("section", { class: "stems", "aria-labelledby": "stems-title" });
  const history = h("section", { class: "history", "aria-labelledby": "history-title" });
  const files = h("section", { class: "files" });
  let stemsShown = "";
  let state = null;
  let shown = false;

  function show(data) {
    if (!shown) fill(main, title, facts, problems, h("div", { class: "columns" }, h("div", {}, stems, files), history));
    shown = true;
    main.removeAttribute("aria-busy");
    showTrouble(null);
    const { row, entry, manifest } = data;
    const name = row.title || row.track;
    crumbs(["Runs", "."], run, [name]);
    fill(title, h("bdi", {}, name), " ", badge(row.state, WORDS[row.row_state] ?? WORDS[row.state]));
    fill(facts, ...factsOf(data));
    fill(problems, ...[row.message, ...data.problems].filter(Boolean).map((words) => h("p", { class: row.state === "failed" ? "bad" : "" }, h("bdi", {}, words))));
    const sounds = JSON.stringify(manifest?.stems ?? []);
    if (sounds !== stemsShown || !stems.firstChild) {
      stemsShown = sounds;
      fill(stems, ...stemsOf(manifest, row, query));
    }
    fill(history, ...historyOf(entry, row));
    fill(files, ...filesOf(data));
    if (state && state !== row.state) say(`The track is now ${WORDS[row.state].toLowerCase()}.`);
    state = row.state;
    return row.state === "waiting" || row.state === "planned";
  }

  follow(() => address("api/track", query), show, (error) => {
    if (error && !shown && [403, 404, 422].includes(error.status)) {
      main.removeAttribute("aria-busy");
      const forbidden = error.status === 403;
      fill(main, empty(forbidden ? "You may not see this track." : "No such track.", forbidden ? "You may not read its DAG's task instances in Airflow." : error.message));
    } else showTrouble(error?.message);
  });
  main.focus({ preventScroll: true });
}

function factsOf({ row, entry, manifest }) {
  const fact = (name, ...value) => h("div", {}, h("dt", {}, name), h("dd", {}, ...value));
  const separation = manifest?.separation_type ?? entry?.separation_type;
  const stem = manifest?.stem_name ?? entry?.stem_name;
  return [
    fact("Key", h("bdi", {}, row.track)),
    separation && fact("Separation", stem ? `${separation}: ${stem}` : separation),
    row.vendor_task_id && fact("Vendor task", h("code", {}, row.vendor_task_id), copier(row.vendor_task_id, "the vendor task's id")),
    entry && fact("Account", h("bdi", {}, entry.account)),
    fact("Submits paid by this run", number(row.submits ?? 0)),
    row.credits !== undefined && fact("Credits", number(row.credits)),
    manifest && fact("Landed", exact(Date.parse(manifest.landed_at))),
    fact("Task", logLink(row), row.try_number ? ` try ${row.try_number}` : ""),
  ].filter(Boolean);
}

function stemsOf(manifest, row, query) {
  const title = h("h2", { id: "stems-title" }, "Stems");
  if (!manifest) {
    const why = {
      landed: "Its manifest cannot be shown; the message above says why.",
      waiting: "The vendor has not finished. The stems show here as soon as they have landed.",
      planned: "It has not been processed yet.",
      failed: "It failed; the message above says why. Clear its task to retry it.",
      left: "It was left because the credits were used up. Top the account up and clear its task.",
    };
    return [title, h("p", { class: "quiet" }, why[row.state])];
  }
  const absent = manifest.absent.map((stem) => stem.name.replaceAll("_", " "));
  return [
    title,
    ...manifest.stems.map((stem) => player(stem, query)),
    absent.length > 0 && h("p", { class: "quiet" }, `The track has no ${absent.join(", ")}, by the vendor's answer.`),
  ];
}

function historyOf(entry, row) {
  const title = h("h2", { id: "history-title" }, "What happened");
  if (!entry) {
    const why = row.entry ? "Its ledger entry cannot be shown." : "It has no ledger entry yet.";
    return [title, h("p", { class: "quiet" }, why)];
  }
  return [title, h("ol", { class: "timeline" }, ...entry.history.map(eventOf))];
}

function eventOf(event) {
  const [words, kind] = EVENTS[event.event] ?? [event.event.replaceAll("_", " "), "begin"];
  const at = Date.parse(event.at);
  const who = event.by;
  return h(
    "li", { "data-kind": kind },
    h("p", { class: "event" }, words, event.count > 1 && h("span", { class: "times" }, ` × ${event.count}`), Boolean(event.credits) && h("span", { class: "times" }, ` · ${counted(event.credits, "credit")}`)),
    h("p", { class: "meta" },
      h("time", { datetime: event.at }, exact(at)),
      event.last_at && event.count > 1 && ` until ${exact(Date.parse(event.last_at))}`,
      event.hidden ? " · by a DAG that you may not read" : who?.dag_id && [" · ", logLink(who, `${who.dag_id} / ${who.task_id}${who.map_index >= 0 ? `[${who.map_index}]` : ""} try ${who.try_number}`)]),
    (event.message || event.code) && h("p", { class: "message" }, event.code && h("b", {}, `${event.code} `), h("bdi", {}, event.message ?? "")),
  );
}

function filesOf({ row, entry, manifest }) {
  const line = (name, uri) => h("li", {}, h("span", {}, name), h("code", { title: uri }, uri), copier(uri, `the address of the ${name.toLowerCase()}`));
  const places = Object.keys(entry?.landings ?? {}).filter((uri) => uri !== row.manifest);
  const lines = [
    row.manifest && line("Manifest", row.manifest),
    row.entry && line("Ledger entry", row.entry),
    ...places.map((uri) => line("Also landed", uri)),
  ].filter(Boolean);
  return [
    lines.length > 0 && h("h2", {}, "In the bucket"),
    lines.length > 0 && h("ul", { class: "addresses" }, ...lines),
    manifest && raw(`manifest.json (${bytes(manifest.stems.reduce((sum, stem) => sum + stem.bytes, 0))} of stems)`, manifest),
    entry && raw("Ledger entry", entry),
  ];
}

function raw(name, content) {
  return h("details", {}, h("summary", {}, name), h("pre", { tabindex: 0 }, JSON.stringify(content, null, 2)));
}
