// The player: the sound of the song whose turn it is, and the bar below. Belongs here: sound, seeking,
// volume. Does not: the order of songs, which is the queue's.
import {$, clock, icon, kept, make, say} from "./dom.js";
import {album, artist, neighbors, rowOf, served, songs, spoken} from "./collection.js";
import {change, follow, playing, state} from "./state.js";
import {ahead, replace} from "./queue.js";

/** @type {HTMLAudioElement} */
export const audio = $("audio");
/** @type {HTMLInputElement} */
const seek = $("seek");
const UNHEARD = "No sound: a page opened from disk may not load your music. Run “make report” to hear it.";
const GONE = "The server is gone: run “make report” again.";
let startAt = 0, dragging = false, loaded = -1;
let waits = false;   // for someone who asks for sound: what is loaded
export const isDragging = () => dragging;

/** @type {(text: string) => void} */
export const note = text => { $("note").textContent = text; $("note").hidden = !text; };

/** @type {(song: number, from: number, sounding: boolean) => void} */
const load = (song, from, sounding) => {
  startAt = from;
  loaded = song;
  waits = !sounding;
  $("now").disabled = false;
  $("now").replaceChildren(make("b", songs.title[song]), make("span", [artist(song), album(song)].filter(Boolean).join(" · ")));
  say(`Now ${served ? "playing" : "showing"} ${spoken(song)}`);
  $("length").textContent = clock(songs.seconds[song]);
  $("moments").disabled = false;
  seek.max = String(songs.seconds[song] || 1);
  aim(from);
  stretch(null);
  if (served) {
    for (const id of ["play", "seek"]) $(id).disabled = false;
    note("");
    audio.src = `/audio/${songs.id[song]}`;
    if (sounding) start();
    announce(song);
  } else {
    note(UNHEARD);
  }
};
// Refused where no one has clicked anything yet: the button then starts it.
const start = () => {
  waits = false;
  audio.play().catch(error => {
    if (error.name !== "NotAllowedError") return;
    waits = true;
    note("This browser lets no page play by itself: press Play.");
  });
};
/** Play a list from its k-th song on, which goes on if it plays already.
 * @type {(list: (number | import("./types").Entry)[], k?: number, name?: string) => void} */
export const play = (list, k = 0, name = "") => {
  if (!list.length) return;
  replace(list, k, name);
  const {song, from} = state.queue[state.at];
  if (from && loaded === song && audio.readyState) audio.currentTime = from;
  if (served && audio.paused) start();
};
/** Play a song, and then what is like it.
 * @type {(song: number) => void} */
export const likeSong = song => play([song, ...neighbors(song).map(found => found.song)], 0, `Like ${songs.title[song]}`);
/** @type {(by: number) => void} */
export const step = by => {
  if (by < 0 && audio.currentTime > 4) { audio.currentTime = 0; return; }
  const to = ahead(by);
  if (to !== null) turnTo(to);
};
/** Play the k-th of the queue.
 * @type {(k: number) => void} */
export const turnTo = k => {
  const same = playing() === state.queue[k].song;
  change({at: k});
  if (same) load(state.queue[k].song, state.queue[k].from, true);   // The same song once more is heard from its start.
  else if (served && audio.paused) start();
};
export const toggle = () => {
  if (!served || state.at < 0) return;
  // What has failed does not play again by itself, though the server or the disk is back.
  if (audio.error) load(state.queue[state.at].song, audio.currentTime, true);
  else if (audio.paused) start(); else audio.pause();
};
/** @type {(seconds: number) => void} */
export const skip = seconds => { if (served && state.at >= 0) audio.currentTime = Math.max(0, audio.currentTime + seconds); };

// The tab, media keys, and the lock screen of a phone.
/** @type {(song: number) => void} */
const announce = song => {
  document.title = spoken(song);
  if (!navigator.mediaSession) return;
  navigator.mediaSession.metadata = new MediaMetadata({
    title: songs.title[song], artist: artist(song) || "", album: album(song) || "",
  });
};
const silence = () => {
  loaded = -1;
  audio.removeAttribute("src");
  audio.load();
  document.title = "Map of the collection";
  $("now").disabled = true;
  $("now").replaceChildren(make("b", "Nothing is playing"), make("span", "Choose a song, and play it"));
  for (const id of ["play", "seek", "moments"]) $(id).disabled = true;
  aim(0);
};

/** @type {(seconds: number) => void} */
const aim = seconds => {
  seek.value = String(seconds);
  seek.style.setProperty("--done", `${100 * seconds / (+seek.max || 1)}%`);
  seek.setAttribute("aria-valuetext", `${clock(seconds)} of ${clock(+seek.max)}`);
  $("elapsed").textContent = clock(seconds);
};
/** Show on the bar which stretch of the song was asked about.
 * @type {(span: [number, number] | null) => void} */
export const stretch = span => {
  seek.style.setProperty("--from", span ? `${100 * span[0] / +seek.max}%` : "0%");
  seek.style.setProperty("--to", span ? `${100 * span[1] / +seek.max}%` : "0%");
};

/** Follow the queue: where it was silent it stays so, unless whoever changed it starts the sound. */
const followQueue = () => {
  const song = playing();
  if (song === null) { if (loaded >= 0) silence(); }
  else if (song !== loaded) load(song, state.queue[state.at].from, !audio.paused);
  $("previous").disabled = song === null;
  $("next").disabled = ahead(1) === null;
};
/** @param {() => void} onMoment what the button for moments does */
export const startPlayer = onMoment => {
  audio.addEventListener("loadedmetadata", () => {
    if (Number.isFinite(audio.duration)) {
      seek.max = String(audio.duration);
      $("length").textContent = clock(audio.duration);
    }
    if (startAt) audio.currentTime = startAt;
    startAt = 0;
  });
  audio.addEventListener("timeupdate", () => { if (!dragging) aim(audio.currentTime); });
  audio.addEventListener("ended", () => { const to = ahead(1); if (to !== null) turnTo(to); });
  for (const event of ["play", "pause"]) audio.addEventListener(event, () => {
    $("play").setAttribute("aria-label", audio.paused ? "Play" : "Pause");
    $("play").replaceChildren(icon(audio.paused ? "play" : "pause"));
    document.documentElement.dataset.sound = audio.paused ? "off" : "on";
    if (!audio.paused) note("");
  });
  audio.addEventListener("error", async () => {
    const song = playing();
    if (song === null || !audio.hasAttribute("src")) return;
    if (!audio.src.endsWith(".wav")) {   // A format that this browser does not know: let it be decoded.
      startAt ||= audio.currentTime;   // Damage may be found in the middle of a song.
      audio.src = `/audio/${songs.id[song]}.wav`;
      if (!waits) audio.play().catch(() => {});
      return;
    }
    const answer = await fetch(audio.src, {headers: {Range: "bytes=0-0"}}).catch(() => null);
    if (song !== playing()) return;
    if (!answer) note(GONE);
    else note(answer.ok ? "This file cannot be played." : await answer.text());
  });
  $("play").onclick = toggle;
  $("next").onclick = () => step(1);
  $("previous").onclick = () => step(-1);
  seek.addEventListener("input", () => { dragging = true; aim(+seek.value); });
  // No change comes where the handle is let go of at the value that it was taken from.
  for (const event of ["pointerup", "pointercancel", "blur"]) seek.addEventListener(event, () => { dragging = false; });
  seek.addEventListener("change", () => { dragging = false; audio.currentTime = +seek.value; });
  $("moments").onclick = onMoment;
  const loud = parseFloat(kept("localStorage", "volume") || "1");
  $("volume").value = audio.volume = loud >= 0 && loud <= 1 ? loud : 1;
  $("volume").oninput = () => {
    audio.volume = +$("volume").value;
    kept("localStorage", "volume", String(audio.volume));
  };
  if (navigator.mediaSession) {
    navigator.mediaSession.setActionHandler("nexttrack", () => step(1));
    navigator.mediaSession.setActionHandler("previoustrack", () => step(-1));
  }
  addEventListener("pagehide", () => kept("sessionStorage", "second", String(audio.currentTime)));
  if (!served) { note(UNHEARD); $("loudness").hidden = true; }
  // After a reload the song waits where it was: no page starts to play by itself.
  if (playing() !== null) load(/** @type {number} */ (playing()), parseFloat(kept("sessionStorage", "second") || "0") || 0, false);
  followQueue();
  follow(["queue", "at"], followQueue);
};
/** Where else it sounds like a second of a song: where it was heard, and those moments, or an error.
 * @type {(song: number, at: number) => Promise<any>} */
export const momentsLike = async (song, at) => {
  if (!served) return {error: "Finding moments needs the server: run “make report”."};
  try {
    const answer = await fetch(`/similar-moments?song=${songs.id[song]}&at=${at.toFixed(1)}`);
    if (!answer.ok) return {error: await answer.text()};
    const found = await answer.json();
    found.moments = found.moments.filter((/** @type {{song: string}} */ moment) => rowOf.has(moment.song));
    return found;
  } catch {
    return {error: GONE};
  }
};
