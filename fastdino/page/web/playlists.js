// Lists of songs: in which order, what comes next, and as a file. Belongs here: what needs no page.
// Does not: what is played, which is in the state.
import {make} from "./dom.js";
import {artist, n, neighbors, path, songs} from "./collection.js";

/** @type {(i: number, j: number) => boolean} */
export const shareArtist = (i, j) => songs.artists[i].some(a => songs.artists[j].includes(a));
/** No artist twice in a row where that can be helped, otherwise in the order given; no song twice.
 * @type {(list: number[]) => number[]} */
export const spaced = list => {
  const left = [...new Set(list)];
  /** @type {number[]} */
  const order = [];
  while (left.length) {
    const last = order.at(-1);
    const other = last === undefined ? 0 : left.findIndex(i => !shareArtist(i, last));
    order.push(...left.splice(Math.max(other, 0), 1));
  }
  return order;
};
/** @type {<T>(list: T[]) => T[]} */
export const shuffled = list => {
  const order = [...list];
  for (let i = order.length - 1; i > 0; i--) {
    const j = Math.floor(Math.random() * (i + 1));
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
};
/** @type {(i: number) => number[]} */
export const likeThis = i => spaced([i, ...neighbors(i).map(found => found.song)]);
/** The typical song of a group, if it has one, and some of the others.
 * @type {(members: number[], typical: number, k?: number) => number[]} */
export const few = (members, typical, k = 12) => {
  const others = shuffled(members.filter(i => i !== typical));
  return spaced([...(typical >= 0 ? [typical] : []), ...others].slice(0, k));
};
/** Songs to go on with after these: alike to the last ones, none that was heard, no artist twice in
 * a row. Once all were heard, those that were heard longest ago.
 * @type {(heard: number[], k: number) => number[]} */
export const goingOn = (heard, k) => {
  const all = [...heard], done = new Set(heard);
  while (all.length < heard.length + k && all.length && n > 1) {
    const last = all[all.length - 1];
    /** @type {Map<number, number>} */
    const score = new Map();
    all.slice(-4).reverse().forEach((seed, age) => {
      for (const {song, similarity} of neighbors(seed)) score.set(song, (score.get(song) || 0) + similarity / (1 + age));
    });
    const alike = [...score].filter(([i]) => !done.has(i)).sort((a, b) => b[1] - a[1]).map(([i]) => i);
    /** @type {(i: number) => number} */
    const far = i => Math.hypot(songs.x[i] - songs.x[last], songs.y[i] - songs.y[last]);
    const nearest = () => [...songs.id.keys()].filter(i => !done.has(i)).sort((a, b) => far(a) - far(b));
    const oldest = () => [...new Set([...all].reverse())].reverse().filter(i => i !== last);
    const next = alike.find(i => !shareArtist(i, last)) ?? nearest().find(i => !shareArtist(i, last)) ?? alike[0] ?? nearest()[0]
      ?? oldest().find(i => !shareArtist(i, last)) ?? oldest()[0];
    if (next === undefined) break;
    all.push(next);
    done.add(next);
  }
  return all.slice(heard.length);
};

// ---- as a file, as `fastdino playlist` writes it: one_line and _entry in playlists.py
/** @type {(text: string) => string} */
const oneLine = text => text.replace(/[\p{Cc}\p{Cs}\p{Zl}\p{Zp}\u202a-\u202e\u2066-\u2069\s]+/gu, " ").trim();
/** A byte that is not UTF-8 is stored as a character, see core/paths.py.
 * @type {(all: string, low?: string, high?: string) => string} */
const ownByte = (_, low, high) => `%${low ?? (parseInt(high || "", 16) + 0x40).toString(16).toUpperCase()}`;
/** @type {(path: string) => string} */
const entry = path => /[\p{Cc}\p{Cs}\p{Zl}\p{Zp}\u202a-\u202e\u2066-\u2069\u{10fe80}-\u{10feff}]|\s$|:\/\//u.test(path)
  ? `file://${path.split("/").map(encodeURIComponent).join("/").replace(/%F4%8F%BA%([89AB].)|%F4%8F%BB%([89AB].)/g, ownByte)}` : path;
/** @type {(name: string, list: number[]) => string} */
export const m3u8 = (name, list) => {
  const lines = ["#EXTM3U", `#PLAYLIST:${oneLine(name)}`];
  for (const i of list) {
    const [start, end] = songs.place[i] ?? [null, null];
    lines.push(
      `#EXTINF:${songs.seconds[i] ?? -1},${oneLine([artist(i), songs.title[i]].filter(Boolean).join(" - "))}`,
      ...(start === null ? [] : [`#EXTVLCOPT:start-time=${start.toFixed(3)}`]),
      ...(end === null ? [] : [`#EXTVLCOPT:stop-time=${end.toFixed(3)}`]),
      entry(path(i)),
    );
  }
  return `${lines.join("\n")}\n`;
};
/** @type {(name: string, list: number[]) => void} */
export const download = (name, list) => {
  const link = /** @type {HTMLAnchorElement} */ (make("a"));
  link.href = URL.createObjectURL(new Blob([m3u8(name, list)], {type: "audio/x-mpegurl"}));
  link.download = `${oneLine(name).replace(/[\\/:*?"<>|]+/g, " ").trim().slice(0, 80) || "Playlist"}.m3u8`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
};
