// What is looked at and what is played, in one place. Belongs here: the state, and who follows which
// of it. Does not: what follows from it; each view shows it in its own way.
import {kept} from "./dom.js";

/** @type {import("./types").State} */
export const state = {
  by: "Cluster", place: {tab: "Groups"}, query: "",
  queue: [], at: -1, name: "", endless: kept("localStorage", "endless") === "true",
  moments: {song: -1, at: 0, found: null},
  pointed: null, selected: [], picking: false, dark: false,
};
/** @type {{names: (keyof import("./types").State)[], act: () => void}[]} */
const followers = [];
/** Call `act` after any of these has changed.
 * @type {(names: (keyof import("./types").State)[], act: () => void) => void} */
export const follow = (names, act) => { followers.push({names, act}); };
/** The only way to change the state: whoever follows what is new is told.
 * @type {(patch: Partial<import("./types").State>) => void} */
export const change = patch => {
  const names = /** @type {(keyof import("./types").State)[]} */ (Object.keys(patch));
  const changed = new Set(names.filter(name => patch[name] !== state[name]));
  Object.assign(state, patch);
  for (const {names, act} of followers) if (names.some(name => changed.has(name))) act();
};
/** @type {() => number | null} */
export const playing = () => state.at < 0 ? null : state.queue[state.at].song;
