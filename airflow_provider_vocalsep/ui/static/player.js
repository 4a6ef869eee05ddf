// One stem: play, seek, and its waveform, which is drawn from the audio as the browser decodes it.

import { fill, h, icon } from "./dom.js";
import { address, bytes, clock, spoken } from "./format.js";
import { copier, outside } from "./parts.js";

const BARS = 600;
/** Decoding holds a file in memory; a larger one plays without a waveform. */
const LARGEST = 80e6;
/** Enough to see the loud and the quiet; a minute of it is half a megabyte. */
const RATE = 8000;

const playing = new Set();
let decoding = Promise.resolve();

export function player(stem, query) {
  const url = address("api/audio", { ...query, stem: stem.name });
  const audio = h("audio", { preload: "none", src: url });
  const button = h("button", { type: "button", class: "play", "aria-label": `Play ${stem.name}` }, icon("play"));
  const canvas = h("canvas", { "aria-hidden": "true" });
  const seek = h("input", { type: "range", min: 0, max: stem.duration_seconds ?? 0, step: 0.1, value: 0, "aria-label": `Position in ${stem.name}` });
  const time = h("span", { class: "time" });
  const wave = h("div", { class: "wave" }, canvas, seek);
  const note = h("p", { class: "quiet", role: "status" });
  const element = h(
    "article", { class: "stem", "data-stem": stem.name, "aria-label": `Stem ${stem.name}` },
    h("header", {}, h("h3", {}, stem.name.replaceAll("_", " ")), h("span", { class: "quiet" }, `${clock(stem.duration_seconds ?? NaN)} · ${bytes(stem.bytes)}`)),
    h("div", { class: "deck" }, button, wave, time),
    note,
    h("footer", {}, h("code", { title: stem.uri }, stem.uri), copier(stem.uri, "the address"), outside(address(url, {}) + "&download=true", { class: "quiet-button", title: "Download", download: true, "aria-label": `Download ${stem.name}` }, icon("save"))),
    audio,
  );
  let peaks = null;

  const length = () => (Number.isFinite(audio.duration) ? audio.duration : (stem.duration_seconds ?? 0));

  function tell() {
    seek.max = length();
    seek.value = audio.currentTime;
    seek.toggleAttribute("data-moved", audio.currentTime > 0);
    seek.setAttribute("aria-valuetext", `${spoken(audio.currentTime)} of ${spoken(length())}`);
    fill(time, `${clock(audio.currentTime)} / ${clock(length())}`);
    draw(canvas, peaks, length() ? audio.currentTime / length() : 0);
  }

  function frame() {
    tell();
    if (!audio.paused) requestAnimationFrame(frame);
  }

  button.addEventListener("click", () => {
    if (!audio.paused) return audio.pause();
    for (const other of playing) other.pause();
    fill(note);
    audio.play().catch((error) => {
      if (error.name !== "AbortError") fill(note, "This stem cannot be played: it is gone from the bucket, or the bucket does not answer.");
    });
  });
  audio.addEventListener("play", () => {
    playing.add(audio);
    element.dataset.playing = "";
    fill(button, icon("pause"));
    button.setAttribute("aria-label", `Pause ${stem.name}`);
    frame();
  });
  audio.addEventListener("pause", () => {
    playing.delete(audio);
    delete element.dataset.playing;
    fill(button, icon("play"));
    button.setAttribute("aria-label", `Play ${stem.name}`);
  });
  audio.addEventListener("timeupdate", tell);
  audio.addEventListener("loadedmetadata", tell);
  seek.addEventListener("input", () => {
    audio.currentTime = Number(seek.value);
    tell();
  });

  new ResizeObserver(tell).observe(wave);
  window.addEventListener("themechange", tell);
  whenSeen(element, async () => {
    try {
      peaks = await peaksOf(stem, url);
      wave.dataset.drawn = "";
    } catch (error) {
      fill(note, error.message || "There is no waveform: the audio could not be read.");
    }
    tell();
  });
  tell();
  return element;
}

function whenSeen(element, then) {
  const observer = new IntersectionObserver((entries) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    observer.disconnect();
    // One at a time: twelve stems at once would be twelve files in memory.
    decoding = decoding.then(then, then);
  });
  observer.observe(element);
}

async function peaksOf(stem, url) {
  const name = `vocalsep-peaks-${stem.sha256}`;
  const kept = sessionStorage.getItem(name);
  if (kept) return Uint8Array.from(kept, (letter) => letter.charCodeAt(0));
  if (stem.bytes > LARGEST) throw new Error("There is no waveform: the file is too large. It can still be played.");
  const answer = await fetch(url);
  if (!answer.ok) throw new Error((await answer.json().catch(() => ({}))).detail ?? "There is no waveform: the audio could not be read.");
  const sound = await new OfflineAudioContext(1, 1, RATE).decodeAudioData(await answer.arrayBuffer());
  const peaks = loudest(sound);
  try {
    sessionStorage.setItem(name, String.fromCharCode(...peaks));
  } catch {
    // full: it is drawn again the next time
  }
  return peaks;
}

function loudest(sound) {
  const channels = Array.from({ length: sound.numberOfChannels }, (_, n) => sound.getChannelData(n));
  const size = Math.max(1, sound.length / BARS);
  const peaks = new Float32Array(BARS);
  for (let bar = 0; bar < BARS; bar++) {
    const end = Math.min(sound.length, Math.floor((bar + 1) * size));
    for (let at = Math.floor(bar * size); at < end; at++) {
      for (const channel of channels) peaks[bar] = Math.max(peaks[bar], Math.abs(channel[at]));
    }
  }
  // A quiet stem is shown as quiet; only what is louder than full scale is brought down to it.
  return Uint8Array.from(peaks, (peak) => Math.round(Math.min(1, peak) * 127));
}

function draw(canvas, peaks, played) {
  const { clientWidth: width, clientHeight: height } = canvas;
  if (!width) return;
  const scale = window.devicePixelRatio || 1;
  const [w, tall] = [Math.round(width * scale), Math.round(height * scale)];
  if (canvas.width !== w || canvas.height !== tall) [canvas.width, canvas.height] = [w, tall];
  const paint = canvas.getContext("2d");
  const style = getComputedStyle(canvas);
  const [done, todo] = [style.getPropertyValue("--accent"), style.getPropertyValue("--wave")];
  paint.clearRect(0, 0, canvas.width, canvas.height);
  const step = 3 * scale;
  const bars = Math.floor(canvas.width / step);
  for (let bar = 0; bar < bars; bar++) {
    // As ears do, make more of what is quiet.
    const loud = peaks ? (peak(peaks, bar / bars, (bar + 1) / bars) / 127) ** 0.7 : 0;
    const size = Math.max(scale, loud * canvas.height * 0.94);
    paint.fillStyle = bar / bars < played ? done : todo;
    paint.fillRect(bar * step, (canvas.height - size) / 2, 2 * scale, size);
  }
}

function peak(peaks, from, to) {
  let most = 0;
  const end = Math.max(Math.floor(from * peaks.length) + 1, Math.floor(to * peaks.length));
  for (let at = Math.floor(from * peaks.length); at < end; at++) most = Math.max(most, peaks[at]);
  return most;
}
