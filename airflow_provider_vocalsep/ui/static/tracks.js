// The tracks of a run, and a search through those of all runs.

import { fill, h, keyed } from "./dom.js";
import { address, bytes, counted as counting, duration, exact, mapped, number, runInAirflow } from "./format.js";
import { follow } from "./live.js";
import { badge, bar, crumbs, empty, goesOn, logLink, outside, pager, say, showTrouble, STATES, WORDS } from "./parts.js";
import { stateOf } from "./runs.js";

export function showRun(main, asked) {
  const { dag_id, run_id } = asked;
  crumbs(["Runs", "."], [`${dag_id} · ${run_id}`]);
  const summary = h("section", { class: "summary", "aria-label": "The run" });
  const list = trackList({ dag_id, run_id, q: asked.q, state: asked.state, tab: asked.tab });
  const progress = bar();
  const title = h("h1", {}, h("span", {}, dag_id), " ");
  const facts = h("dl", { class: "facts" });
  fill(main, title, summary, list.element);
  fill(summary, progress.element, facts);
  let went = null;

  follow(
    () => address("api/run", { dag_id, run_id }),
    (data) => {
      main.removeAttribute("aria-busy");
      showTrouble(data.troubles);
      const { run, airflow } = data;
      const going = goesOn(airflow, run);
      fill(title, h("span", {}, dag_id), " ", stateOf({ airflow, concluded: run?.concluded }));
      const counts = run ?? { tracks: 0, landed: 0, failed: 0, waiting: 0, left: 0 };
      progress.element.hidden = !run;
      progress.update(counts);
      fill(facts, ...factsOf(data, counts));
      list.goesOn(going);
      if (went && !going) say(`The run has ended: ${counts.landed} of ${counts.tracks} tracks landed, ${counts.failed} failed.`);
      went = going;
    },
    (error) => refused(main, error),
  );
  if (!asked.tab) main.focus({ preventScroll: true });
}

function refused(main, error) {
  showTrouble(error?.status === 403 ? null : error?.message);
  if (error?.status === 403) {
    main.removeAttribute("aria-busy");
    fill(main, empty("You may not see this run.", "You may not read its DAG's task instances in Airflow. Ask whoever manages your Airflow."));
  }
}

function factsOf({ dag_id, run_id, airflow, destinations, run }, counts) {
  const fact = (name, ...value) => h("div", {}, h("dt", {}, name), h("dd", {}, ...value));
  return [
    fact("Run", outside(runInAirflow({ dag_id, run_id }), { title: "Open the run in Airflow" }, run_id)),
    fact("Tracks", number(counts.tracks)),
    fact("Submits paid", number(run?.submits)),
    fact("Credits", number(run?.credits)),
    fact("Stems", run ? `${number(run.stems)} · ${bytes(run.bytes)}` : "–"),
    airflow?.start && fact("Started", h("span", { title: exact(Date.parse(airflow.start)) }, exact(Date.parse(airflow.start)))),
    airflow && fact(airflow.end ? "Took" : "Running for", duration(airflow.start, airflow.end)),
    airflow?.user && fact("Triggered by", h("bdi", {}, airflow.user)),
    destinations.length > 0 && fact("Destination", ...destinations.map((uri) => h("code", {}, uri))),
  ].filter(Boolean);
}

export function showSearch(main, asked) {
  crumbs(["Runs", "."], ["Search"]);
  main.removeAttribute("aria-busy");
  const list = trackList({ q: asked.q });
  fill(main, h("h1", {}, "Tracks of all runs"), list.element);
  list.goesOn(false);
}

/** Search, state filter, table and pages. */
function trackList({ dag_id, run_id, q = "", state = "", tab }) {
  const ofRun = Boolean(run_id);
  let offset = 0;
  let size = 100;
  const search = h("input", { type: "search", id: "search", placeholder: "Key, title or vendor task", maxlength: 300, autocomplete: "off" });
  search.value = q;
  const filters = h("div", { class: "filters", role: "group", "aria-label": "Filter by state" });
  const note = h("p", { class: "quiet", "aria-live": "polite" });
  const body = h("tbody", { role: "rowgroup" });
  const columns = [["Track", "name"], ["State", "state"], [ofRun ? "Stems" : "Run", ofRun ? "n" : "run"], ["Size", "n"], ["What happened", "what"], ["Task", "task"]];
  const head = columns.map(([words, kind]) => h("th", { scope: "col", role: "columnheader", class: kind }, words));
  const table = h("table", { class: "list tracks", role: "table" }, h("caption", { class: "unseen" }, "Tracks"), h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, ...head)), body);
  const none = h("div", {});
  const pages = pager((way) => turn(offset + way * size));
  const element = h("section", { "aria-label": "Tracks" }, h("div", { class: "tools" }, h("label", { class: "unseen", for: "search" }, "Search tracks by key, title or vendor task"), search, filters, note), table, none, pages.element);
  let counted = null;
  let going = true;

  const live = follow(
    () => address("api/tracks", { dag_id, run_id, q: search.value.trim(), state, offset: offset || "" }),
    show,
    (error) => error && error.status !== 403 && showTrouble(error.message),
  );

  function turn(to) {
    offset = Math.max(0, to);
    const path = ofRun ? address("run", { dag_id, run_id, q: search.value.trim(), state, tab }) : address("tracks", { q: search.value.trim() });
    history.replaceState(null, "", path);
    live.again();
  }
  search.addEventListener("input", () => turn(0));

  function show(data) {
    size = data.page_size;
    keyed(body, data.tracks, keyOf, (track) => trackRow(track, ofRun));
    table.hidden = !data.tracks.length;
    counted = data.states;
    buttons();
    fill(note, counting(data.total, "track"));
    fill(none, !data.tracks.length && nothing());
    pages.update(data);
  }

  function nothing() {
    if (search.value.trim() || state) return empty("No track matches.", "Try a part of its key or title, or another state.");
    if (going) return empty("No track is reported yet.", "Tracks show here as soon as the run writes its report.");
    return empty("This run has separated nothing.", "It has no vocal separation task, or none of them has written a report. See its tasks' logs in Airflow.");
  }

  function buttons() {
    const choices = ["", ...STATES].map((name) => {
      const pressed = state === name;
      const n = name ? (counted?.[name] ?? 0) : STATES.reduce((sum, each) => sum + (counted?.[each] ?? 0), 0);
      return h(
        "button", { type: "button", "aria-pressed": String(pressed), "data-state": name || "all", "data-name": name, disabled: Boolean(name && !n && !pressed), on: { click: () => { state = name; turn(0); } } },
        h("span", {}, name ? WORDS[name] : "All"), " ", h("b", {}, number(n)),
      );
    });
    const focused = document.activeElement?.dataset?.name;
    const had = filters.contains(document.activeElement);
    fill(filters, ...choices);
    if (had) filters.querySelector(`[data-name="${focused}"]`)?.focus();
  }

  return {
    element,
    goesOn(goes) {
      const ended = going && !goes;
      going = goes;
      // The message of an empty list depends on it.
      if (ended && counted) live.again();
    },
  };
}

const keyOf = (track) => [track.dag_id, track.run_id, track.task_id, track.map_index, track.track].join("\n");

function trackRow(first, ofRun) {
  const { dag_id, run_id, task_id, map_index, track } = first;
  const link = address("track", { dag_id, run_id, task_id, map_index, track });
  const title = first.title || track;
  const name = h(
    "th", { scope: "row", role: "rowheader", class: "name" },
    h("a", { href: link, title: first.title ? `${first.title} (${track})` : track }, h("bdi", { class: "title" }, title), title !== track && h("bdi", { class: "sub" }, track)),
  );
  const state = h("td", { role: "cell", class: "state", "data-label": "State" });
  const third = ofRun ? h("td", { role: "cell", class: "n", "data-label": "Stems" }) : h("td", { role: "cell", class: "run", "data-label": "Run" }, h("a", { href: address("run", { dag_id, run_id }) }, h("span", { class: "title" }, dag_id), h("span", { class: "sub" }, run_id)));
  const size = h("td", { role: "cell", class: "n", "data-label": "Size" });
  const what = h("td", { role: "cell", class: "what", "data-label": "What happened" });
  const task = h("td", { role: "cell", class: "task", "data-label": "Task" }, logLink(first));
  const element = h("tr", { role: "row" }, name, state, third, size, what, task);
  let before = "";
  return {
    element,
    update(row) {
      const now = JSON.stringify(row);
      if (now === before) return;
      before = now;
      const odd = row.row_state !== row.state && WORDS[row.row_state];
      fill(state, odd ? badge(row.state, WORDS[row.row_state], undefined) : badge(row.state));
      if (ofRun) fill(third, row.state === "landed" ? number(row.stems ?? 0) : "–");
      fill(size, row.state === "landed" ? bytes(row.bytes ?? 0) : "–");
      const words = happened(row);
      fill(what, h("bdi", { title: words }, words));
      task.title = `${row.task_id}${mapped(row)} try ${row.try_number}`;
    },
  };
}

function happened(row) {
  if (row.message) return row.message;
  if (row.state === "landed") return row.before ? "Had landed before; nothing was paid" : row.submits > 1 ? `Paid for ${row.submits} times` : "";
  if (row.vendor_task_id) return `Vendor task ${row.vendor_task_id}`;
  return "";
}
