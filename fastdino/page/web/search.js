// Search: songs and groups by words of their names, with slips of the finger. Belongs here: which are
// found, the best first. Does not: how they are shown.
import {album, albums, artist, songs, ways} from "./collection.js";

/** @type {(text: string) => string} */
const plain = text => text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();
/** @type {(text: string) => string[]} */
const words = text => plain(text).match(/[\p{L}\p{N}]+/gu) || [];

// Every word of the collection, and the songs it is in with what it counts there.
/** @type {Map<string, {rows: number[], weights: number[]}> | null} */
let vocabulary = null;
export const index = () => {
  if (vocabulary) return vocabulary;
  /** @type {Map<string, {rows: number[], weights: number[]}>} */
  const made = new Map();
  /** @type {(text: string, rows: number[], weight: number) => void} */
  const add = (text, rows, weight) => {
    for (const word of new Set(words(text))) {
      const entry = made.get(word) || {rows: [], weights: []};
      made.set(word, entry);
      for (const row of rows) { entry.rows.push(row); entry.weights.push(weight); }
    }
  };
  songs.title.forEach((title, i) => { add(title, [i], 1); });
  /** @type {(way: import("./types").Way, weight: number) => void} */
  const groups = (way, weight) => way.groups.forEach((group, g) => { add(group.name, way.members[g], weight); });
  groups(ways.Artist, .9);
  songs.credit.forEach((text, i) => { if (text) add(text, [i], .9); });
  groups(albums, .6);
  groups(ways.Genre, .4);
  groups(ways.Cluster, .3);
  songs.year.forEach((year, i) => { if (year) add(String(year), [i], .4); });
  vocabulary = made;
  return made;
};

/** Whether a word can be had from another by at most `most` changes, two swapped letters being one.
 * @type {(a: string, b: string, most: number) => boolean} */
const within = (a, b, most) => {
  if (Math.abs(a.length - b.length) > most) return false;
  /** @type {number[]} */
  let before = [];
  let above = Array.from({length: b.length + 1}, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    let least = i;
    for (let j = 1; j <= b.length; j++) {
      let cost = Math.min(above[j] + 1, row[j - 1] + 1, above[j - 1] + +(a[i - 1] !== b[j - 1]));
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) cost = Math.min(cost, before[j - 2] + 1);
      row.push(cost);
      least = Math.min(least, cost);
    }
    if (least > most) return false;
    [before, above] = [above, row];
  }
  return above[b.length] <= most;
};

/** How well a word that is typed stands for a word that is there; 0 for not at all.
 * @type {(typed: string, word: string) => number} */
const likeness = (typed, word) => {
  if (word === typed) return 1;
  if (word.startsWith(typed)) return .9 - .2 * (1 - typed.length / word.length);
  if (typed.length > 1 && word.includes(typed)) return .5;
  const slips = typed.length < 4 ? 0 : typed.length < 8 ? 1 : 2;
  if (!slips) return 0;
  if (within(typed, word, slips)) return .45;
  return within(typed, word.slice(0, typed.length), slips) ? .35 : 0;
};

/** Songs in which every word is found, the best first.
 * @type {(text: string) => number[]} */
export const search = text => {
  const asked = words(text);
  if (!asked.length) {   // Names without a letter: "!!!", "???", emoji.
    const wanted = plain(text).trim();
    return wanted ? [...songs.id.keys()].filter(i => [songs.title[i], artist(i), album(i)].some(name => name && plain(name).includes(wanted))) : [];
  }
  /** @type {Map<number, number>} */
  let total = new Map();
  let first = true;
  for (const typed of asked) {
    /** @type {Map<number, number>} */
    const best = new Map();
    for (const [word, {rows, weights}] of index()) {
      const like = likeness(typed, word);
      if (!like) continue;
      rows.forEach((row, j) => {
        if (!first && !total.has(row)) return;
        const score = like * weights[j];
        if (score > (best.get(row) || 0)) best.set(row, score);
      });
    }
    for (const [row, score] of best) best.set(row, score + (total.get(row) || 0));
    total = best;
    first = false;
  }
  const whole = plain(text).trim();
  for (const [row, score] of total) {
    const title = plain(songs.title[row]);
    total.set(row, score + (title === whole ? 1 : title.startsWith(whole) ? .3 : 0));
  }
  return [...total].sort((a, b) => b[1] - a[1] || songs.title[a[0]].localeCompare(songs.title[b[0]])).map(([row]) => row);
};

/** The words of each group's name, by kind.
 * @type {Map<string, string[][]>} */
const named = new Map();
const KINDS = {Artist: "Artists", Album: "Albums", Genre: "Genres", Year: "Years", Cluster: "Clusters"};
/** Groups in whose name every word is found, by kind, the best and largest first.
 * @type {(text: string, k?: number) => {of: string, kind: string, found: number[]}[]} */
export const searchGroups = (text, k = 4) => {
  const asked = words(text), whole = plain(text).trim();
  return Object.entries(KINDS).map(([of, kind]) => {
    const way = of === "Album" ? albums : ways[of], names = named.get(of) ?? way.groups.map(({name}) => words(name));
    named.set(of, names);
    const scored = names.map((there, g) => {
      let score = 0;
      for (const typed of asked) {
        // A year is asked for by its number: in decades only the whole of it counts.
        const best = of === "Year" ? +(there[0] === typed || (/^\d{4}$/.test(typed) && there[0].startsWith(typed.slice(0, 3))))
          : Math.max(0, ...there.map(word => likeness(typed, word)));
        if (!best) return [g, 0];
        score += best;
      }
      return [g, score && score / asked.length + (plain(way.groups[g].name) === whole ? 1 : 0)];
    });
    scored.sort((a, b) => b[1] - a[1] || way.members[b[0]].length - way.members[a[0]].length);
    return {of, kind, found: scored.filter(([, score]) => score >= .4).slice(0, k).map(([g]) => g)};
  }).filter(({found}) => found.length);
};
