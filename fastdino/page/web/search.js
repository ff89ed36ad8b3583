// Search: songs by words of title, artists, album and genres, with slips of the finger.

const plain = text => text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();
const words = text => plain(text).match(/[\p{L}\p{N}]+/gu) || [];

// Every word of the collection, and the songs it is in with what it counts there.
let vocabulary = null;
const index = () => {
  if (vocabulary) return vocabulary;
  vocabulary = new Map();
  const add = (text, rows, weight) => {
    for (const word of new Set(words(text))) {
      if (!vocabulary.has(word)) vocabulary.set(word, {rows: [], weights: []});
      const entry = vocabulary.get(word);
      for (const row of rows) { entry.rows.push(row); entry.weights.push(weight); }
    }
  };
  songs.title.forEach((title, i) => add(title, [i], 1));
  const groups = (names, of, weight) => {
    const rows = names.map(() => []);
    of.forEach((g, i) => { for (const each of [g].flat()) if (each >= 0) rows[each].push(i); });
    names.forEach((name, g) => add(name, rows[g], weight));
  };
  groups(data.artists, songs.artists, .9);
  songs.credit.forEach((text, i) => text && add(text, [i], .9));
  groups(data.albums, songs.album, .6);
  groups(data.genres, songs.genres, .4);
  return vocabulary;
};

// Whether a word can be had from another by at most `most` changes, two swapped letters being one.
const within = (a, b, most) => {
  if (Math.abs(a.length - b.length) > most) return false;
  let before = [], above = Array.from({length: b.length + 1}, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    let least = i;
    for (let j = 1; j <= b.length; j++) {
      let cost = Math.min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (a[i - 1] !== b[j - 1]));
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) cost = Math.min(cost, before[j - 2] + 1);
      row.push(cost);
      least = Math.min(least, cost);
    }
    if (least > most) return false;
    [before, above] = [above, row];
  }
  return above[b.length] <= most;
};

// How well a word that is typed stands for a word that is there; 0 for not at all.
const likeness = (typed, word) => {
  if (word === typed) return 1;
  if (word.startsWith(typed)) return .9 - .2 * (1 - typed.length / word.length);
  if (typed.length > 1 && word.includes(typed)) return .5;
  const slips = typed.length < 4 ? 0 : typed.length < 8 ? 1 : 2;
  if (!slips) return 0;
  if (within(typed, word, slips)) return .45;
  return within(typed, word.slice(0, typed.length), slips) ? .35 : 0;
};

// Songs in which every word is found, the best first.
const search = text => {
  const asked = words(text);
  if (!asked.length) {   // Names without a letter: "!!!", "???", emoji.
    const wanted = plain(text).trim();
    return wanted ? [...songs.id.keys()].filter(i => [songs.title[i], artist(i), album(i)].some(name => name && plain(name).includes(wanted))) : [];
  }
  let total = null;
  for (const typed of asked) {
    const best = new Map();
    for (const [word, {rows, weights}] of index()) {
      const like = likeness(typed, word);
      if (!like) continue;
      rows.forEach((row, j) => {
        if (total && !total.has(row)) return;
        const score = like * weights[j];
        if (score > (best.get(row) || 0)) best.set(row, score);
      });
    }
    if (total) for (const [row, score] of best) best.set(row, score + total.get(row));
    total = best;
  }
  const whole = plain(text).trim();
  for (const [row, score] of total) {
    const title = plain(songs.title[row]);
    total.set(row, score + (title === whole ? 1 : title.startsWith(whole) ? .3 : 0));
  }
  return [...total].sort((a, b) => b[1] - a[1] || songs.title[a[0]].localeCompare(songs.title[b[0]])).map(([row]) => row);
};
