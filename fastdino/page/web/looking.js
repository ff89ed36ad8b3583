// What stands out on the map for what is looked at. Belongs here: which songs those are. Does not: how
// they are drawn.
import {groupOf, neighbors, rowOf} from "./collection.js";
import {search} from "./search.js";
import {state} from "./state.js";

/**
 * @typedef {object} Looked
 * @property {Set<number> | null} emphasis songs that stand out; null for all alike
 * @property {number | null} song the one that is open
 * @property {number[]} near its nearest, or songs with moments like one of it
 * @property {number[]} line songs in the order in which they are heard
 * @property {number | null} cluster the one whose name alone is shown
 * @property {boolean} frame whether the map shows them all
 */
let asked = "";
/** @type {number[]} */
let found = [];
/** Songs that are searched for. */
export const hits = () => {
  if (asked !== state.query) { asked = state.query; found = search(state.query); }
  return found;
};
/** @type {() => Looked} */
export const looked = () => {
  const {place, query, queue, selected, moments} = state;
  const none = {emphasis: null, song: null, near: [], line: [], cluster: null, frame: false};
  if (query) return {...none, emphasis: new Set(hits()), frame: true};
  if (place.tab === "Song" && place.song !== undefined) {
    const near = place.lens !== "moments" ? neighbors(place.song).map(each => each.song)
      : moments.song === place.song && moments.found && !moments.found.error
        ? moments.found.moments.map(moment => /** @type {number} */ (rowOf.get(moment.song))) : [];
    return {...none, song: place.song, near};
  }
  if (place.tab === "Queue" && queue.length) {
    const line = queue.map(entry => entry.song);
    return {...none, emphasis: new Set(line), line};
  }
  if (place.tab === "Picked" && selected.length) return {...none, emphasis: new Set(selected)};
  if (place.tab === "Groups" && place.of && place.group !== undefined) {
    const cluster = place.of === "Cluster" && place.group >= 0 ? place.group : null;
    return {...none, emphasis: new Set(groupOf(place.of, place.group).members), cluster, frame: place.of !== "Cluster"};
  }
  return none;
};
