// The runs of all destinations.

import { fill, h, keyed } from "./dom.js";
import { address, bytes, counted, duration, number } from "./format.js";
import { follow } from "./live.js";
import { badge, bar, crumbs, empty, goesOn, pager, rested, say, showTrouble, when } from "./parts.js";

const COLUMNS = [
  ["Run", "name"], ["State", "state"], ["Progress", "progress"], ["Landed", "n"], ["Failed", "n"], ["Waiting", "n"],
  ["Credits", "n"], ["Size", "n"], ["Time", "n"], ["Changed", "n"],
];

export function showRuns(main, asked) {
  crumbs(["Runs", "."]);
  let offset = Number(asked.offset) || 0;
  const search = h("input", { type: "search", id: "filter", placeholder: "Filter by DAG or run", maxlength: 300, autocomplete: "off" });
  search.value = asked.q ?? "";
  const body = h("tbody", { role: "rowgroup" });
  const head = h("tr", { role: "row" }, ...COLUMNS.map(([words, kind]) => h("th", { scope: "col", role: "columnheader", class: kind }, words)));
  const table = h(
    "table", { class: "list runs", role: "table" }, h("caption", { class: "unseen" }, "Runs, the last changed first"),
    h("thead", { role: "rowgroup" }, head), body,
  );
  const note = h("p", { class: "quiet", "aria-live": "polite" });
  const pages = pager((way) => turn(offset + way * size));
  const none = h("div", {});
  const tools = h("div", { class: "tools" }, h("label", { class: "unseen", for: "filter" }, "Filter runs by DAG or run"), search, note);
  fill(main, h("h1", {}, "Runs"), tools, table, none, pages.element);
  let size = 50;
  let states = null;

  const live = follow(() => address("api/runs", { q: search.value.trim(), offset: offset || "" }), show, (error) => showTrouble(error?.message));

  function turn(to) {
    offset = Math.max(0, to);
    history.replaceState(null, "", address(".", { q: search.value.trim(), offset: offset || "" }));
    live.again();
  }
  search.addEventListener("input", () => turn(0));

  function show(data) {
    size = data.page_size;
    main.removeAttribute("aria-busy");
    showTrouble(data.troubles);
    keyed(body, data.runs, (run) => `${run.dag_id}\n${run.run_id}`, runRow);
    table.hidden = !data.runs.length;
    fill(note, data.unread ? `Reading ${number(data.unread)} older reports…` : data.total ? counted(data.total, "run") : "");
    fill(none, !data.runs.length && nothing(data, search.value));
    pages.update(data);
    announce(data.runs);
  }

  function announce(runs) {
    const now = new Map(runs.map((run) => [run.run_id, stage(run, states?.get(run.run_id))]));
    for (const run of runs) {
      const before = states?.get(run.run_id);
      if (before && before !== "ended" && now.get(run.run_id) === "ended") {
        say(`Run ${run.run_id} of ${run.dag_id} has ended: ${run.landed} of ${run.tracks} tracks landed, ${run.failed} failed.`);
      }
    }
    states = now;
  }
}

/** Airflow knows that a run has ended before the last reports are read: they count in the next answer. */
function stage(run, before) {
  if (goesOn(run.airflow, run)) return "going";
  return run.concluded || before === "ending" || before === "ended" ? "ended" : "ending";
}

function nothing(data, text) {
  if (data.reading) return empty("Reading the reports…");
  if (text) return empty("No run matches.", "Try a part of the DAG's or the run's id.");
  if (data.troubles.length) return empty("No runs can be shown.", "The message above says why; the page tries again by itself.");
  if (!data.destinations) {
    return empty(
      "No runs yet.",
      "Trigger a DAG that uses VocalSeparationOperator or VocalSeparationBatchOperator with a destination; its run shows here when it starts.",
      "To show runs of a destination that Airflow no longer knows, add it to [vocalsep] destinations.",
    );
  }
  return empty("No runs yet that you may see.", "A run shows here when its first task starts, to those who may read its DAG.");
}

function cell(kind, label, ...children) {
  return h("td", { role: "cell", class: kind, "data-label": label }, ...children);
}

function runRow(first) {
  const link = address("run", { dag_id: first.dag_id, run_id: first.run_id });
  const name = h(
    "th", { scope: "row", role: "rowheader", class: "name" },
    h("a", { href: link, title: `${first.dag_id} · ${first.run_id}` }, h("span", { class: "title" }, first.dag_id), h("span", { class: "sub" }, first.run_id)),
  );
  const state = cell("state", "State");
  const progress = bar();
  const share = h("span", { class: "share" });
  const cells = Object.fromEntries(["Landed", "Failed", "Waiting", "Credits", "Size", "Time", "Changed"].map((label) => [label, cell("n", label)]));
  const element = h("tr", { role: "row" }, name, state, cell("progress", "Progress", progress.element, share), ...Object.values(cells));
  let before = "";
  return {
    element,
    update(run) {
      const ended = !goesOn(run.airflow, run);
      if (!ended) fill(cells.Time, duration(run.airflow?.start, null));
      const now = JSON.stringify(run);
      if (now === before) return;
      before = now;
      fill(state, stateOf(run));
      progress.update(run);
      const rest = rested(run);
      fill(share, !run.tracks ? "nothing reported yet" : `${number(rest.landed + rest.failed + rest.left)} / ${number(run.tracks)}`);
      fill(cells.Landed, number(run.landed));
      fill(cells.Failed, number(run.failed));
      cells.Failed.classList.toggle("bad", run.failed > 0);
      fill(cells.Waiting, number(run.waiting));
      fill(cells.Credits, number(run.credits));
      fill(cells.Size, bytes(run.bytes));
      fill(cells.Time, duration(run.airflow?.start, run.airflow?.end));
      fill(cells.Changed, run.modified ? when(run.modified * 1000) : "–");
    },
  };
}

export function stateOf({ airflow, concluded }) {
  if (airflow) return badge(airflow.state, airflow.state, "State of the DAG run in Airflow");
  return badge(concluded ? "ended" : "unknown", concluded ? "ended" : "unfinished", "Airflow no longer has this run");
}
