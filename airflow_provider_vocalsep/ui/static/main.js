// Which view the address asks for.

import { showRuns } from "./runs.js";
import { showTrack } from "./track.js";
import { showRun, showSearch } from "./tracks.js";

const views = { "": showRuns, run: showRun, tracks: showSearch, track: showTrack };
const name = location.pathname.slice(location.pathname.lastIndexOf("/") + 1);
const asked = Object.fromEntries(new URLSearchParams(location.search));
const main = document.getElementById("main");

if (asked.tab) document.documentElement.classList.add("tab");
document.getElementById("find").value = name === "tracks" ? (asked.q ?? "") : "";
views[name](main, asked);

// "/" goes to the nearest search, as in many lists.
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.target.matches("input, textarea, select")) return;
  event.preventDefault();
  (main.querySelector("input[type=search]") ?? document.getElementById("find")).focus();
});
