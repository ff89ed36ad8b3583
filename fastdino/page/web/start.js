// Setting out. Belongs here: the headline, the keyboard, and everyone in their order. Does not: what
// they do.
import {$, counted, say} from "./dom.js";
import {askMoments, startPanel} from "./panel.js";
import {back, startAddress} from "./address.js";
import {data, n} from "./collection.js";
import {look, pick} from "./rows.js";
import {likeSong, skip, startPlayer, step, toggle} from "./player.js";
import {restore, startQueue, undo} from "./queue.js";
import {search} from "./search.js";
import {showAll, startMap, zoom} from "./map.js";
import {change, state} from "./state.js";
import {startTheme, switchTheme} from "./theme.js";

$("title").textContent = `${counted(data.counts.songs, "song")}, laid out by sound`;
$("facts").textContent = data.facts;

// ---- keyboard
const LINES = 60;   // pixels that an arrow key scrolls a list with nothing to choose
/** @type {(by: number) => void} */
const walk = by => {
  const {scrollTop} = $("view");
  const choices = /** @type {HTMLElement[]} */ ([...$("view").querySelectorAll(".what")]);
  const at = choices.indexOf(/** @type {HTMLElement} */ (document.activeElement));
  const to = choices[at < 0 ? (by > 0 ? 0 : choices.length - 1) : at + by];
  if (to) to.focus();
  else if (!choices.length && (by > 0 || scrollTop)) $("view").scrollTop = scrollTop + by * LINES;
  else if (by < 0) $("query").focus();
};
/** Play the row that the keyboard has reached, or add it to the queue.
 * @type {(part: string) => void} */
const press = part => /** @type {HTMLElement | null} */ (document.activeElement?.closest(".songs li")?.querySelector(part) ?? null)?.click();
/** Pick the song of the row that the keyboard has reached, or the one that is open, or put it back. */
const pickHere = () => {
  const row = /** @type {HTMLElement | null} */ (document.activeElement?.closest(".songs li") ?? null);
  const song = row ? Number(row.dataset.song) : state.place.song;
  if (song === undefined) return;
  const at = row ? [...$("view").querySelectorAll(".songs li")].indexOf(row) : -1;
  pick([song], true, true);
  if (!row || row.isConnected) return;
  const left = $("view").querySelectorAll(".songs .what");   // It was taken from among those that are picked.
  /** @type {HTMLElement} */ (left[Math.min(at, left.length - 1)] ?? $("view")).focus();
};
/** @type {(picking: boolean) => void} */
const setPicking = picking => {
  change({picking});
  $("pick").setAttribute("aria-pressed", String(picking));
  say(picking ? "Taps and clicks pick songs now" : "Songs are looked at again");
};
const help = () => { $("help").setAttribute("aria-expanded", String($("hint").classList.toggle("all"))); };
/** @type {Record<string, () => void>} */
const keys = {
  "?": help,
  "/": () => $("query").select(),
  " ": toggle,
  ArrowDown: () => walk(1),
  ArrowUp: () => walk(-1),
  ArrowLeft: () => skip(-5),
  ArrowRight: () => skip(5),
  n: () => step(1),
  p: () => step(-1),
  m: () => $("moments").click(),
  h: () => press(".hear"),
  a: () => press(".add"),
  s: pickHere,
  u: undo,
  "+": () => zoom(1.5),
  "=": () => zoom(1.5),
  "-": () => zoom(1 / 1.5),
  0: showAll,
};
addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  const at = /** @type {HTMLInputElement} */ (event.target), typing = at === $("query");
  if (event.key === "Escape") {
    if (typing) at.blur();
    if ($("hint").classList.contains("all")) help();
    else if (state.picking) setPicking(false);
    else back();
  } else if (typing) {
    if (event.key === "ArrowDown") walk(1);
    else if (event.key === "Enter") {
      const best = search(at.value)[0];
      if (best === undefined) return;
      at.blur();
      look(best);
    } else return;
  } else {
    // A button that the keyboard has reached is pressed by the space bar, as everywhere.
    if (event.key === " " && at.matches("button:focus-visible")) return;
    if (at === $("volume") && event.key.startsWith("Arrow")) return;
    const act = keys[event.key] || keys[event.key.toLowerCase()];
    if (!act) return;
    act();
  }
  event.preventDefault();
});

$("zoom-in").onclick = () => zoom(1.5);
$("zoom-out").onclick = () => zoom(1 / 1.5);
$("zoom-all").onclick = showAll;
$("pick").onclick = () => setPicking(!state.picking);
$("help").onclick = help;
$("theme").onclick = switchTheme;
startTheme();
restore();
startAddress();
startQueue();
startPlayer(() => askMoments());
startMap({look, play: likeSong, pick});
startPanel();
document.documentElement.dataset.ready = String(n);
