// Numbers, times and addresses as people read them.

const count = new Intl.NumberFormat("en");
const moment = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });
export const number = (value) => (value === null || value === undefined ? "–" : count.format(value));

export function bytes(value) {
  if (value === null || value === undefined) return "–";
  const units = ["B", "kB", "MB", "GB", "TB"];
  let step = 0;
  for (; value >= 1000 && step < units.length - 1; step++) value /= 1000;
  return `${value >= 100 || step === 0 ? Math.round(value) : value.toFixed(1)} ${units[step]}`;
}

export function clock(seconds) {
  if (!Number.isFinite(seconds)) return "–:––";
  const whole = Math.max(0, Math.floor(seconds));
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

export function spoken(seconds) {
  const whole = Math.max(0, Math.floor(seconds || 0));
  const minutes = Math.floor(whole / 60);
  return `${minutes ? `${minutes} min ` : ""}${whole % 60} s`;
}

export function duration(start, end) {
  if (!start) return "–";
  const seconds = ((end ? Date.parse(end) : Date.now()) - Date.parse(start)) / 1000;
  if (seconds < 60) return `${Math.max(0, Math.round(seconds))} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
}

export const exact = (when) => moment.format(when);

const STEPS = [["s", 60], ["min", 60], ["h", 24], ["d", Infinity]];

export function ago(when) {
  let left = Math.max(0, Date.now() - when) / 1000;
  if (left < 3) return "now";
  for (const [unit, size] of STEPS) {
    if (left < size) return `${Math.floor(left)} ${unit} ago`;
    left /= size;
  }
}

export const counted = (n, one, many = `${one}s`) => `${number(n)} ${n === 1 ? one : many}`;

/** An address of this page; empty parameters are left out. */
export function address(path, parameters = {}) {
  const said = Object.entries(parameters).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const query = new URLSearchParams(said.map(([name, value]) => [name, String(value)])).toString();
  return query ? `${path}?${query}` : path;
}

const base = location.pathname.slice(0, location.pathname.lastIndexOf("/vocalsep-audit/"));

/** The page of a DAG run in Airflow. */
export const runInAirflow = ({ dag_id, run_id }) =>
  `${base}/dags/${encodeURIComponent(dag_id)}/runs/${encodeURIComponent(run_id)}`;

/** The log of a task instance in Airflow. */
export function logInAirflow(who) {
  const mapped = who.map_index >= 0 ? `/mapped/${who.map_index}` : "";
  const tried = who.try_number ? `?try_number=${who.try_number}` : "";
  return `${runInAirflow(who)}/tasks/${encodeURIComponent(who.task_id)}${mapped}${tried}`;
}

export const mapped = (who) => (who.map_index >= 0 ? `[${who.map_index}]` : "");
