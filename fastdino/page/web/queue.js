// The queue: adding to it, reordering, taking away, and back again. Belongs here: changes of the
// queue. Does not: sound; how it looks.
import {change, follow, playing, state} from "./state.js";
import {goingOn, shuffled} from "./playlists.js";
import {kept} from "./dom.js";
import {rowOf, songs} from "./collection.js";

const KEPT = 50;   // steps back
const AHEAD = 5;   // songs that endless play puts in at a time
/** @type {import("./types").Listened[]} */
const before = [];
/** @type {(list: (number | import("./types").Entry)[]) => import("./types").Entry[]} */
export const entries = list => list.map(entry => typeof entry === "number" ? {song: entry, from: 0} : entry);
export const canUndo = () => before.length > 0;

/** @type {(patch: Partial<import("./types").Listened>) => void} */
const alter = patch => {
  const {queue, at, name} = state;
  before.push({queue, at, name});
  if (before.length > KEPT) before.shift();
  change(patch);
};
export const undo = () => {
  const last = before.pop();
  if (last) change(last);
};
/** Put a list in place of what was queued, from its k-th song on.
 * @type {(list: (number | import("./types").Entry)[], k?: number, name?: string) => void} */
export const replace = (list, k = 0, name = "") => alter({queue: entries(list), at: k, name});
/** @type {(list: (number | import("./types").Entry)[]) => void} */
export const append = list => alter({queue: [...state.queue, ...entries(list)], at: Math.max(state.at, 0), name: state.name || "Your queue"});
/** @type {(list: (number | import("./types").Entry)[]) => void} */
export const playNext = list => alter({
  queue: [...state.queue.slice(0, state.at + 1), ...entries(list), ...state.queue.slice(state.at + 1)],
  at: Math.max(state.at, 0), name: state.name || "Your queue",
});
/** @type {(from: number, to: number) => void} */
export const move = (from, to) => {
  const queue = [...state.queue], now = queue[state.at];
  if (to < 0 || to >= queue.length || from === to) return;
  queue.splice(to, 0, ...queue.splice(from, 1));
  alter({queue, at: queue.indexOf(now)});
};
/** Take one away; of the one that plays, the next comes in its place.
 * @type {(k: number) => void} */
export const remove = k => {
  const queue = state.queue.filter((_, j) => j !== k);
  alter({queue, at: k < state.at ? state.at - 1 : Math.min(state.at, queue.length - 1)});
};
/** All but the song that plays. */
export const clear = () => alter({queue: state.queue.slice(state.at, state.at + 1), at: Math.min(state.at, 0), name: "Your queue"});
/** What is still to come, in another order. */
export const shuffle = () => alter({queue: [...state.queue.slice(0, state.at + 1), ...shuffled(state.queue.slice(state.at + 1))]});
/** @type {(endless: boolean) => void} */
export const setEndless = endless => {
  kept("localStorage", "endless", String(endless));
  change({endless});
};
/** Where `by` songs on is, or null beyond the ends.
 * @type {(by: number) => number | null} */
export const ahead = by => {
  const to = state.at + by;
  return state.at >= 0 && to >= 0 && to < state.queue.length ? to : null;
};

/** Endless play and the queue of the last visit. */
export const startQueue = () => {
  follow(["queue", "at", "endless"], () => {
    if (!state.endless || playing() === null || ahead(1) !== null) return;
    const more = goingOn(state.queue.map(entry => entry.song), AHEAD);
    if (more.length) change({queue: [...state.queue, ...entries(more)]});
  });
  follow(["queue", "at"], () => {
    const list = state.queue.map(({song, from}) => [songs.id[song], from]);
    kept("sessionStorage", "queue", JSON.stringify({list, at: state.at, name: state.name}));
  });
};
/** The queue as a reload left it: songs that are gone since are left out.
 * @type {() => void} */
export const restore = () => {
  /** @type {{list: [string, number][], at: number, name: string} | null} */
  let last = null;
  try { last = JSON.parse(kept("sessionStorage", "queue") || "null"); } catch { return; }
  if (!Array.isArray(last?.list)) return;
  /** @type {import("./types").Entry[]} */
  const queue = [];
  let at = -1;
  last.list.forEach(([id, from], k) => {
    const song = rowOf.get(id);
    if (song === undefined) return;
    if (k <= last.at) at = queue.length;
    queue.push({song, from});
  });
  if (queue.length) change({queue, at: Math.max(at, 0), name: String(last.name)});
};
