// The address bar: where one is, as a link that can be kept and sent. Belongs here: places in words of
// the address, going there, and back. Does not: what is seen there.
import {change, state} from "./state.js";
import {$, say} from "./dom.js";
import {rowOf, songs, wayOf, ways} from "./collection.js";

const TABS = ["Groups", "Song", "Queue", "Picked", "Collection"];
const ROOT = {tab: "Groups"};
/** @type {(state: Pick<import("./types").State, "place" | "by" | "query">) => string} */
export const addressOf = ({place, by, query}) => {
  const words = new URLSearchParams();
  if (place.tab !== "Groups") words.set("tab", place.tab);
  if (place.song !== undefined) words.set("song", songs.id[place.song]);
  if (place.lens === "moments") words.set("lens", "moments");
  // By name: numbers of groups change when the map is drawn anew. Of several of that name by a song.
  if (place.of && place.group !== undefined) {
    const {groups, members} = wayOf(place.of), g = place.group, name = groups[g]?.name ?? "";
    words.set("of", place.of);
    words.set("group", name);
    if (groups.some((other, h) => h !== g && other.name === name)) words.set("with", songs.id[members[g][0]]);
  }
  if (by !== "Cluster") words.set("by", by);
  if (query) words.set("q", query);
  return `#${words}`;
};
/** Where an address leads: anyone can have written it, and what it names may be gone.
 * @type {(hash: string) => {place: import("./types").Place, by: string, query: string, gone?: string}} */
export const readAddress = hash => {
  const words = new URLSearchParams(hash.replace(/^#/, ""));
  const by = Object.hasOwn(ways, words.get("by") || "") ? words.get("by") || "" : "Cluster", query = words.get("q") || "";
  const named = words.get("tab") || (words.has("song") ? "Song" : "Groups");
  const tab = TABS.includes(named) ? named : "Groups";
  if (tab === "Song") {
    const song = rowOf.get(words.get("song") || "");
    if (song === undefined) return {place: ROOT, by, query, gone: "That song is not in the collection any more."};
    return {place: {tab, song, lens: words.get("lens") === "moments" ? "moments" : "songs"}, by, query};
  }
  const of = words.get("of") || "", name = words.get("group");
  if (tab === "Groups" && name !== null && (Object.hasOwn(ways, of) || of === "Album")) {
    const {groups, members} = wayOf(of), song = rowOf.get(words.get("with") || "");
    const named = [...groups.keys()].filter(g => groups[g].name === name);
    const group = name === "" ? -1 : named.find(g => song !== undefined && members[g].includes(song)) ?? named[0] ?? -1;
    if (name !== "" && group < 0) return {place: ROOT, by, query, gone: "That group is not on the map any more."};
    return {place: {tab, of, group}, by, query};
  }
  return {place: {tab}, by, query};
};

let depth = 0, leaving = false, again = 0;
const scrolled = () => ({depth, scroll: $("view").scrollTop});
/** To be called before the change that leads there: with something new in the list, browsers lay it out
 * for that.
 * @type {(how: "pushState" | "replaceState", kept: object, to: string) => void} */
const write = (how, kept, to) => { try { history[how](kept, "", to); } catch { /* A browser that limits how often. */ } };
let waiting = 0;
/** The way to every place and query: what is still being typed then is not searched for any more.
 * @type {(patch: Partial<import("./types").State>) => void} */
const enter = patch => {
  const {query} = patch;
  if (query !== undefined) {
    clearTimeout(waiting);
    if (!query || $("query").value.trim() !== query) $("query").value = query;
  }
  change(patch);
};
/** Search for what is typed, once the typing rests.
 * @type {(ms: number) => void} */
export const searchSoon = ms => {
  clearTimeout(waiting);
  waiting = setTimeout(() => alterPlace({query: $("query").value.trim()}), ms);
};
/** Go to a place, which ends a search.
 * @type {(place: import("./types").Place, by?: string) => void} */
export const go = (place, by = state.by) => {
  const to = addressOf({place, by, query: ""});
  const moved = to !== addressOf(state);
  if (moved) {
    try { history.replaceState(scrolled(), ""); } catch { /* As above. */ }
    depth++;
    write("pushState", {depth, scroll: 0}, to);
  }
  $("view").scrollTop = 0;
  enter({place, by, query: ""});
};
/** Something else of where one is: no step to go back from.
 * @type {(patch: Partial<import("./types").State>) => void} */
export const alterPlace = patch => {
  write("replaceState", scrolled(), addressOf({...state, ...patch}));
  $("view").scrollTop = 0;
  enter(patch);
};
export const back = () => {
  if (state.query || $("query").value.trim()) { alterPlace({query: ""}); return; }
  if (depth === 0) { go(ROOT); return; }
  if (leaving) { again++; return; }   // The browser is on its way: one after the other.
  leaving = true;
  history.back();
};
export const startAddress = () => {
  /** @type {(kept: {depth?: number, scroll?: number} | null) => void} */
  const arrive = kept => {
    const {gone, ...where} = readAddress(location.hash);
    depth = kept?.depth || 0;
    enter(where);
    $("view").scrollTop = kept?.scroll || 0;
    if (gone) { $("missing").textContent = gone; say(gone); }
    $("missing").hidden = !gone;
  };
  addEventListener("popstate", event => {
    arrive(event.state);
    leaving = false;
    if (again) { again--; back(); }
  });
  // A reload says last where it was.
  addEventListener("pagehide", () => { try { history.replaceState(scrolled(), ""); } catch { /* As above. */ } });
  arrive(history.state);
};
