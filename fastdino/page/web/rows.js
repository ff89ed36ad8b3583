// Parts of the list: rows of songs and groups, headings, switches. Belongs here: what several views
// have in common. Does not: which songs are listed.
import {$, button, clock, count, counted, make, say} from "./dom.js";
import {album, albumArtist, artist, groupOf, songs, spoken} from "./collection.js";
import {DOT, grey, seen} from "./theme.js";
import {append, move, remove} from "./queue.js";
import {back, go} from "./address.js";
import {bring} from "./map.js";
import {change, playing, state} from "./state.js";
import {few} from "./playlists.js";
import {play, toggle, turnTo} from "./player.js";

const LISTED = 200;   // rows of songs at a time
const EDGE = 28;   // pixels: what is dragged so near to the end of the list moves on in it
/** @typedef {import("./types").Entry & {similarity?: number}} Listed */

/** @type {(color?: string | null) => HTMLElement} */
export const dot = color => { const i = make("i", undefined, "dot"); i.style.background = color ? seen(color, DOT) : grey(); return i; };
/** Look at a song: nothing of what is heard changes.
 * @type {(song: number) => void} */
export const look = song => { go({tab: "Song", song, lens: "songs"}); bring(song); };
/** @type {(of: string, group: number) => void} */
export const lookAtGroup = (of, group) => go({tab: "Groups", of, group});
/** Put songs among those that are picked, or take one away that was; from a list one stays in it.
 * @type {(picked: number[], more: boolean, stay?: boolean) => void} */
export const pick = (picked, more, stay = false) => {
  const one = picked.length === 1 && state.selected.includes(picked[0]);
  const selected = one ? state.selected.filter(i => i !== picked[0]) : [...new Set([...(more ? state.selected : []), ...picked])];
  change({selected});
  say(`${counted(selected.length, "song")} picked`);
  if (stay) return;
  if (selected.length) go({tab: "Picked"});
  else if (state.place.tab === "Picked") go({tab: "Groups"});
};

/** @type {(similarity: number) => HTMLElement} */
export const meter = similarity => {
  const element = make("span", undefined, "detail meter"), bar = make("i"), percent = Math.round(100 * Math.max(0, similarity));
  bar.style.width = `${percent}%`;
  element.title = `Similarity ${similarity.toFixed(2)}`;
  element.setAttribute("role", "img");
  element.setAttribute("aria-label", element.title);
  element.append(bar);
  return element;
};
/** @type {(i: number) => HTMLElement} */
const what = i => {
  const element = button("", "", event => event.ctrlKey || event.metaKey || state.picking ? pick([i], true, true) : look(i), "what");
  element.append(make("b", songs.title[i]), make("span", [artist(i), album(i)].filter(Boolean).join(" · ") || "Unknown artist"));
  element.onfocus = () => change({pointed: i});
  element.onblur = () => change({pointed: null});
  return element;
};
/** @type {(i: number, onPlay: () => void) => HTMLElement} */
const hear = (i, onPlay) => {
  const element = button("", `Play ${spoken(i)}`, onPlay, "hear", "play");
  const bars = make("span", undefined, "bars");
  bars.append(make("i"), make("i"), make("i"));
  element.append(bars);
  return element;
};
/** @type {(i: number, parts: HTMLElement[], onPlay: () => void) => HTMLElement} */
const row = (i, parts, onPlay) => {
  const element = make("li");
  element.dataset.song = String(i);
  element.append(...parts);
  element.onmouseenter = () => change({pointed: i});
  element.onmouseleave = () => change({pointed: null});
  playOf.set(element, onPlay);
  return element;
};
/** What a double-click on a row plays.
 * @type {WeakMap<Element, () => void>} */
export const playOf = new WeakMap();
/** One row a song; to play one is to go on with those below it.
 * @type {(list: (number | Listed)[], name: string, detail?: (entry: Listed) => HTMLElement) => HTMLElement} */
export const rows = (list, name, detail) => {
  const element = make("ol", undefined, "songs");
  const all = list.map(entry => typeof entry === "number" ? {song: entry, from: 0} : entry);
  all.slice(0, LISTED).forEach((entry, k) => {
    const i = entry.song, onPlay = () => play(all, k, name);
    const add = button("", `Add ${spoken(i)} to the queue`, () => { append([entry]); say(`${songs.title[i]} is in the queue`); }, "add", "add");
    element.append(row(i, [hear(i, onPlay), what(i), detail ? detail(entry) : make("span", clock(songs.seconds[i]), "detail"), add], onPlay));
  });
  if (all.length > LISTED) element.append(make("li", `and ${count(all.length - LISTED)} more`, "rest"));
  return element;
};
/** The queue, from a little before what plays on: rows can be moved, by dragging and by arrow keys.
 * @type {() => HTMLElement} */
export const queueRows = () => {
  const element = make("ol", undefined, "songs queue"), from = Math.max(0, state.at - 20);
  if (from) element.append(make("li", `${count(from)} before`, "rest"));
  state.queue.slice(from, from + LISTED).forEach(({song: i}, j) => {
    const k = from + j, onPlay = () => k === state.at ? toggle() : turnTo(k);
    const handle = button("", `Move ${spoken(i)}: drag, or arrow keys`, () => {}, "handle", "move");
    handle.onkeydown = event => {
      const by = {ArrowUp: -1, ArrowDown: 1}[event.key];
      if (!by) return;
      event.preventDefault();
      event.stopPropagation();
      const to = k + by;
      if (to < 0 || to >= state.queue.length) return;
      move(k, to);
      /** @type {HTMLElement | null} */ ($("view").querySelector(`.queue li[data-k="${to}"] .handle`))?.focus();
      say(`${songs.title[i]} is number ${to + 1} of ${state.queue.length}`);
    };
    handle.onpointerdown = event => drag(event, k);
    const away = button("", `Remove ${spoken(i)} from the queue`, () => {
      remove(k);
      /** @type {HTMLElement | null} */ (($("view").querySelector(`.queue li[data-k="${Math.min(k, state.queue.length - 1)}"] .away`) ?? $("view")))?.focus();
    }, "away", "away");
    const line = row(i, [hear(i, onPlay), what(i), make("span", clock(songs.seconds[i]), "detail"), handle, away], onPlay);
    line.dataset.k = String(k);
    line.classList.toggle("over", k < state.at);
    element.append(line);
  });
  const left = state.queue.length - from - LISTED;
  if (left > 0) element.append(make("li", `and ${count(left)} more`, "rest"));
  return element;
};
/** @type {(event: PointerEvent, k: number) => void} */
const drag = (event, k) => {
  const handle = /** @type {HTMLElement} */ (event.currentTarget), dragged = handle.closest("li");
  handle.setPointerCapture(event.pointerId);
  dragged?.classList.add("dragged");
  let to = k;
  /** @type {(at: PointerEvent) => void} */
  const over = at => {
    const list = $("view"), {left, top, right, bottom} = list.getBoundingClientRect();
    list.scrollTop += at.clientY < top + EDGE ? -EDGE / 2 : at.clientY > bottom - EDGE ? EDGE / 2 : 0;
    const line = /** @type {HTMLElement | null} */ (document.elementFromPoint((left + right) / 2, at.clientY)?.closest(".queue li[data-k]") ?? null);
    for (const other of $("view").querySelectorAll(".aim-above, .aim-below")) other.classList.remove("aim-above", "aim-below");
    if (!line) return;
    to = Number(line.dataset.k);
    if (to !== k) line.classList.add(to < k ? "aim-above" : "aim-below");
  };
  handle.onpointermove = over;
  handle.onpointerup = handle.onpointercancel = () => {
    handle.onpointermove = handle.onpointerup = handle.onpointercancel = null;
    dragged?.classList.remove("dragged");
    for (const other of $("view").querySelectorAll(".aim-above, .aim-below")) other.classList.remove("aim-above", "aim-below");
    move(k, to);
  };
};

/** @type {(of: string, g: number) => HTMLElement} */
export const groupRow = (of, g) => {
  const {name, color, members, typical} = groupOf(of, g), element = make("li");
  const open = button("", "", () => lookAtGroup(of, g), "what");
  open.append(make("b", name));
  if (typical >= 0) open.append(make("span", [songs.title[typical], artist(typical)].filter(Boolean).join(" · ")));
  if (of === "Album" && g >= 0) open.append(make("span", albumArtist(g)));
  const some = button("", `Play a few of ${name}`, () => playFew(of, g), "hear", "play");
  element.append(dot(color), open, make("span", count(members.length), "detail"), some);
  return element;
};
/** @type {(of: string, g: number) => void} */
export const playFew = (of, g) => {
  const {name, members, typical} = groupOf(of, g);
  play(few(members, typical), 0, `A few of ${name}`);
  bring(/** @type {number} */ (playing()));
};
/** @type {(...parts: HTMLElement[]) => HTMLElement} */
export const actions = (...parts) => { const element = make("div", undefined, "actions"); element.append(...parts); return element; };
/** @type {(text: string, color?: string | null) => HTMLElement} */
export const heading = (text, color) => {
  const element = make("h2");
  element.tabIndex = -1;
  if (color !== undefined) element.append(dot(color));
  element.append(make("span", text));
  return element;
};
/** @type {(text: string, color?: string | null) => HTMLElement} */
export const topWithBack = (text, color) => {
  const element = make("div", undefined, "top");
  element.append(button("", "Back", back, "back", "back"), heading(text, color));
  return element;
};
/** @type {(label: string, names: [string, string][], chosen: string, onChoose: (name: string) => void) => HTMLElement} */
export const switcher = (label, names, chosen, onChoose) => {
  const element = make("div", undefined, "switch");
  element.setAttribute("role", "group");
  element.setAttribute("aria-label", label);
  for (const [name, text] of names) {
    const one = button(text, "", () => onChoose(name));
    one.dataset.name = name;
    one.setAttribute("aria-pressed", String(name === chosen));
    element.append(one);
  }
  return element;
};
