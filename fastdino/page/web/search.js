// Search: songs and groups by words of their names, with slips of the finger. Belongs here: which are
// found, the best first. Does not: how they are shown.
import {album, albums, artist, songs, ways} from "./collection.js";

/** @type {(text: string) => string} */
const plain = text => (/^[\0-\x7f]*$/.test(text) ? text : text.normalize("NFD").replace(/\p{M}/gu, "")).toLowerCase();
/** @type {(text: string) => string[]} */
const words = text => plain(text).match(/[\p{L}\p{N}]+/gu) || [];

/** Which letters are in a word, as bits; some share one.
 * @type {(word: string) => number} */
const lettersOf = word => {
  let bits = 0;
  for (let k = 0; k < word.length; k++) bits |= 1 << (word.charCodeAt(k) & 31);
  return bits;
};
/** @type {(bits: number) => number} */
const counted = bits => {
  let count = 0;
  for (; bits; bits &= bits - 1) count++;
  return count;
};

// Every word of the collection, and the songs it is in with what it counts there.
/** @type {Map<string, {rows: number[], weights: number[], letters: number}> | null} */
let vocabulary = null;
export const index = () => {
  if (vocabulary) return vocabulary;
  /** @type {Map<string, {rows: number[], weights: number[], letters: number}>} */
  const made = new Map();
  /** @type {(text: string, rows: number[], weight: number) => void} */
  const add = (text, rows, weight) => {
    for (const word of new Set(words(text))) {
      const entry = made.get(word) ?? {rows: [], weights: [], letters: lettersOf(word)};
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

const LONGEST = 250;   // letters of a word in which slips are looked for
let [row, above, before] = Array.from({length: 3}, () => new Uint8Array(LONGEST + 1));
/** Whether a word can be had from another by at most `most` changes, two swapped letters being one.
 * @type {(a: string, b: string, most: number) => boolean} */
const within = (a, b, most) => {
  if (Math.abs(a.length - b.length) > most || b.length > LONGEST) return false;
  for (let j = 0; j <= b.length; j++) above[j] = j;
  for (let i = 1; i <= a.length; i++) {
    let least = i;
    row[0] = i;
    for (let j = 1; j <= b.length; j++) {
      const same = a.charCodeAt(i - 1) === b.charCodeAt(j - 1);
      let cost = Math.min(above[j] + 1, row[j - 1] + 1, above[j - 1] + +!same);
      if (i > 1 && j > 1 && a.charCodeAt(i - 1) === b.charCodeAt(j - 2) && a.charCodeAt(i - 2) === b.charCodeAt(j - 1)) cost = Math.min(cost, before[j - 2] + 1);
      row[j] = cost;
      least = Math.min(least, cost);
    }
    if (least > most) return false;
    [row, above, before] = [before, row, above];
  }
  return above[b.length] <= most;
};

// Of what is written without spaces a letter is as good as a word.
const UNSPACED = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}\p{Script=Lao}\p{Script=Khmer}\p{Script=Myanmar}]/u;
/** How well a word that is typed stands for a word that is there; 0 for not at all.
 * @type {(typed: string, word: string, missing: number) => number} */
const likeness = (typed, word, missing) => {
  if (word === typed) return 1;
  if (word.startsWith(typed)) return .9 - .2 * (1 - typed.length / word.length);
  if ((typed.length > 1 || UNSPACED.test(typed)) && word.includes(typed)) return .5;
  const slips = typed.length < 4 ? 0 : typed.length < 8 ? 1 : 2;
  if (!slips || missing > slips) return 0;
  if (within(typed, word, slips)) return .45;
  return within(typed, word.slice(0, typed.length), slips) ? .35 : 0;
};
const ASKED = 20;   // words that are typed
/** @type {Map<string, Map<string, number>>} */
const asking = new Map();
/** The words of the collection that a word which is typed stands for, and how well: kept for the
 * groups that are searched with the songs.
 * @type {(typed: string) => Map<string, number>} */
const alike = typed => {
  const known = asking.get(typed);
  if (known) return known;
  /** @type {Map<string, number>} */
  const found = new Map();
  const letters = lettersOf(typed);
  for (const [word, entry] of index()) {
    const like = likeness(typed, word, counted(letters & ~entry.letters));
    if (like) found.set(word, like);
  }
  if (asking.size >= ASKED) asking.clear();
  asking.set(typed, found);
  return found;
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
  asked.forEach((typed, k) => {
    /** @type {Map<number, number>} */
    const best = new Map();
    for (const [word, like] of alike(typed)) {
      const {rows, weights} = index().get(word) ?? {rows: [], weights: []};
      for (let j = 0; j < rows.length; j++) {
        const row = rows[j];
        if (k && !total.has(row)) continue;
        const score = like * weights[j];
        if (score > (best.get(row) || 0)) best.set(row, score);
      }
    }
    if (k) for (const [row, score] of best) best.set(row, score + (total.get(row) || 0));
    total = best;
  });
  const whole = plain(text).trim();
  /** @type {{row: number, score: number, title: string}[]} */
  const scored = [];
  for (const [row, score] of total) {
    const title = plain(songs.title[row]);
    scored.push({row, score: score + (title === whole ? 1 : title.startsWith(whole) ? .3 : 0), title: songs.title[row]});
  }
  return scored.sort((a, b) => b.score - a.score || byName(a.title, b.title)).map(({row}) => row);
};
const byName = new Intl.Collator().compare;

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
          : Math.max(0, ...there.map(word => alike(typed).get(word) ?? 0));
        if (!best) return [g, 0];
        score += best;
      }
      return [g, score && score / asked.length + (plain(way.groups[g].name) === whole ? 1 : 0)];
    });
    const found = scored.filter(([, score]) => score >= .4);
    found.sort((a, b) => b[1] - a[1] || way.members[b[0]].length - way.members[a[0]].length);
    return {of, kind, found: found.slice(0, k).map(([g]) => g)};
  }).filter(({found}) => found.length);
};
