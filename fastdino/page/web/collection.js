// The collection: what the page knows of every song, and ways to group songs. Belongs here: facts.
// Does not: what is looked at or played.
import {day} from "./dom.js";

/** @type {(id: string) => any} */
const part = id => JSON.parse(document.getElementById(id)?.textContent || "");
/** @type {import("./types").Data} */
export const data = part("data");
// What few ask for is read when it is asked for.
/** @type {import("./types").Files | null} */
let known = null;
/** Where files lie, and what is wrong with some: another device is not told.
 * @type {() => import("./types").Files} */
export const files = () => known ||= part("files");
export const songs = data.songs;
export const n = songs.id.length;
// Places on the map, as what is asked of every song at every move.
export const xs = Float64Array.from(songs.x);
export const ys = Float64Array.from(songs.y);
export const rowOf = new Map(songs.id.map((id, i) => [id, i]));
export const served = location.protocol.startsWith("http");

/** @type {(names: string[], of: number[]) => string | undefined} */
const listed = (names, of) => of.map(g => names[g]).join("; ") || undefined;
/** @type {(i: number) => string | undefined} */
export const artist = i => songs.credit[i] ?? listed(data.artists, songs.artists[i]);
/** @type {(i: number) => string | undefined} */
export const album = i => data.albums[songs.album[i]];
/** @type {(i: number) => string | undefined} */
export const genre = i => listed(data.genres, songs.genres[i]);
/** @type {(i: number) => string} */
export const path = i => `${files().folders[files().folder[i]].replace(/\/$/, "")}/${files().file[i]}`;
/** @type {(i: number) => string} */
export const spoken = i => artist(i) ? `${songs.title[i]} by ${artist(i)}` : songs.title[i];

// ---- neighbours: n * k rows, n where there is none
/** @type {(text: string) => Uint8Array<ArrayBuffer>} */
const bytes = text => {
  const binary = atob(text), values = new Uint8Array(binary.length);
  for (let i = 0; i < values.length; i++) values[i] = binary.charCodeAt(i);
  return values;
};
/** @type {{k: number, rows: Uint32Array, similarities: Uint8Array} | null} */
let near = null;
/** The nearest songs, the nearest first.
 * @type {(i: number) => import("./types").Found[]} */
export const neighbors = i => {
  if (!near) {
    /** @type {import("./types").Neighbors} */
    const {k, rows, similarities} = part("neighbors");
    near = {k, rows: new Uint32Array(bytes(rows).buffer), similarities: bytes(similarities)};
  }
  const found = [];
  for (let j = i * near.k; j < (i + 1) * near.k && near.rows[j] < n; j++) {
    found.push({song: near.rows[j], similarity: near.similarities[j] / 255});
  }
  return found;
};

// ---- ways to group songs: each song's group number, and the groups with their members. A song of
// several artists or genres has the colour of the first and is a member of each.
const fresh = 8;   // days of adding that are told apart
const clusterRow = new Map(data.clusters.map((cluster, g) => [cluster.id, g]));
/** @type {(way: Omit<import("./types").Way, "members" | "rest">) => import("./types").Way} */
const withMembers = way => {
  /** @type {number[][]} */
  const members = way.groups.map(() => []);
  /** @type {number[]} */
  const rest = [];
  way.of.forEach((g, i) => {
    if (g < 0) rest.push(i);
    else for (const each of way.all ? way.all[i] : [g]) members[each].push(i);
  });
  return {...way, members, rest};
};
/** @type {(all: number[][], names: string[], none: string) => import("./types").Way} */
const tagged = (all, names, none) => withMembers({
  all, of: all.map(groups => groups[0] ?? -1), none, groups: names.map((name, g) => ({name, color: data.palette[g]})),
});
/** The colour at a share of the scale from the newest, 0, to the oldest, 1.
 * @type {(share: number) => string} */
const shade = share => {
  const at = share * (data.ramp.length - 1), low = Math.min(Math.floor(at), data.ramp.length - 2);
  /** @type {(k: number) => number} */
  const part = k => {
    const [a, b] = [data.ramp[low], data.ramp[low + 1]].map(hex => parseInt(hex.slice(1 + 2 * k, 3 + 2 * k), 16));
    return Math.round(a + (b - a) * (at - low));
  };
  return `#${[0, 1, 2].map(k => part(k).toString(16).padStart(2, "0")).join("")}`;
};
const byYear = (() => {
  const known = /** @type {number[]} */ (songs.year.filter(year => year)).sort((a, b) => a - b);
  // A wrong tag, as the year 1, must not take the whole scale.
  const first = known[Math.floor(known.length * .01)], last = known.at(-1 - Math.floor(known.length * .01));
  /** @type {Map<number, string>} */
  const tints = new Map();
  /** @type {(year: number) => string} */
  const tint = year => {
    const there = tints.get(year) ?? shadeOf(year);
    tints.set(year, there);
    return there;
  };
  /** @type {(year: number) => string} */
  const shadeOf = year => shade(last === undefined || first === last ? 0 : Math.min(1, Math.max(0, (last - year) / (last - first))));
  const decade = songs.year.map(year => year ? Math.floor(year / 10) : null);
  const found = /** @type {number[]} */ ([...new Set(decade)].filter(d => d !== null)).sort((a, b) => b - a);
  const row = new Map(found.map((d, g) => [d, g]));
  return withMembers({
    of: decade.map(d => d === null ? -1 : row.get(d) ?? -1),
    groups: found.map(d => ({name: `${d}0s`, color: tint(d * 10 + 5)})),
    none: "No year tag",
    tints: songs.year.map(year => year ? tint(year) : null),
    ends: known.length ? [String(first), String(last)] : undefined,
  });
})();
/** @type {Record<string, import("./types").Way>} */
export const ways = {
  Cluster: withMembers({
    of: songs.cluster.map(id => clusterRow.get(id) ?? -1),
    groups: data.clusters.map(({name, color, typical}) => ({name, color, typical})),
    none: "In no cluster",
  }),
  Genre: tagged(songs.genres, data.genres, "No genre tag"),
  Artist: tagged(songs.artists, data.artists, "No artist tag"),
  Year: byYear,
  Added: withMembers({
    of: songs.day.map(d => Math.min(d, fresh)),
    groups: [...data.days.slice(0, fresh), ...(data.days.length > fresh ? ["Earlier"] : [])].map((name, g) => ({
      name: name === "Earlier" ? name : day(name) || "Unknown",
      color: g < fresh ? data.ramp[g] : undefined,
    })),
    none: "Unknown",
  }),
};
/** Albums are looked at one by one: there are too many to colour by. */
export const albums = tagged(songs.album.map(g => g < 0 ? [] : [g]), data.albums, "No album tag");
/** Whose an album is, by its number: several have the same name.
 * @type {(g: number) => string} */
export const albumArtist = g => {
  const by = albums.members[g].map(i => songs.artists[i]);
  return listed(data.artists, by[0].filter(a => by.every(several => several.includes(a))))
    ?? (by.some(several => several.length) ? "Various artists" : "Unknown artist");
};
/** @type {(name: string) => import("./types").Way} */
export const wayOf = name => name === "Album" ? albums : ways[name];
/** A group by its number, -1 being the songs without one.
 * @type {(of: string, g: number) => {name: string, color?: string, typical: number, members: number[]}} */
export const groupOf = (of, g) => {
  const way = wayOf(of);
  return g < 0 ? {name: way.none, members: way.rest, typical: -1} : {typical: -1, ...way.groups[g], members: way.members[g]};
};
