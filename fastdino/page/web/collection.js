// The collection: what the page knows of every song, and ways to group songs.
// Text from tags and file names only ever reaches the page through textContent.
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const songs = data.songs, n = songs.id.length;
const rowOf = new Map(songs.id.map((id, i) => [id, i]));
const served = location.protocol.startsWith("http");

const $ = id => document.getElementById(id);
const make = (tag, text, className) => {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (className) element.className = className;
  return element;
};
const count = number => number.toLocaleString("en");
const counted = (number, what) => `${count(number)} ${what}${number === 1 ? "" : "s"}`;
const clock = seconds => {
  if (!Number.isFinite(seconds)) return "–:––";
  const s = Math.max(0, Math.floor(seconds)), h = Math.floor(s / 3600);
  const m = Math.floor(s / 60) % 60, pad = value => String(value).padStart(2, "0");
  return h ? `${h}:${pad(m)}:${pad(s % 60)}` : `${m}:${pad(s % 60)}`;
};
// How long it takes to hear something: minutes and seconds, or hours.
const lasting = seconds => seconds < 7200 ? clock(seconds) : `${count(Math.round(seconds / 3600))} hours`;
const day = text => text && new Date(`${text}T00:00Z`).toLocaleDateString(
  "en-GB", {day: "numeric", month: "long", year: "numeric", timeZone: "UTC"});

const listed = (names, of) => of.map(g => names[g]).join("; ") || undefined;
const artist = i => songs.credit[i] ?? listed(data.artists, songs.artists[i]);
const album = i => data.albums[songs.album[i]];
const genre = i => listed(data.genres, songs.genres[i]);
const path = i => `${data.folders[songs.folder[i]].replace(/\/$/, "")}/${songs.file[i]}`;
const spoken = i => artist(i) ? `${songs.title[i]} by ${artist(i)}` : songs.title[i];

// ---- neighbours: n * k rows, n where there is none
const bytes = text => {
  const binary = atob(text), values = new Uint8Array(binary.length);
  for (let i = 0; i < values.length; i++) values[i] = binary.charCodeAt(i);
  return values;
};
let near = null;
const neighbors = i => {
  near ||= {
    rows: new Uint32Array(bytes(data.neighbors.rows).buffer),
    similarities: bytes(data.neighbors.similarities),
  };
  const found = [];
  for (let j = i * data.neighbors.k; j < (i + 1) * data.neighbors.k && near.rows[j] < n; j++) {
    found.push({song: near.rows[j], similarity: near.similarities[j] / 255});
  }
  return found;
};

// ---- ways to group songs: each song's group number, and the groups with their members. A song of
// several artists or genres has the colour of the first and is a member of each.
const fresh = 8;   // days of adding that are told apart
const clusterRow = new Map(data.clusters.map((cluster, g) => [cluster.id, g]));
const tagged = (all, names, none) => ({
  all, of: all.map(groups => groups[0] ?? -1), none, groups: names.map((name, g) => ({name, color: data.palette[g]})),
});
const ways = {
  Cluster: {
    of: songs.cluster.map(id => clusterRow.get(id) ?? -1),
    groups: data.clusters.map(({name, color, typical}) => ({name, color, typical})),
    none: "In no cluster",
  },
  Genre: tagged(songs.genres, data.genres, "No genre tag"),
  Artist: tagged(songs.artists, data.artists, "No artist tag"),
  Year: (() => {
    const decade = songs.year.map(year => year ? Math.floor(year / 10) : null);
    const found = [...new Set(decade)].filter(d => d !== null).sort((a, b) => b - a);
    const shade = g => data.ramp[Math.min(data.ramp.length - 1, Math.round(g * data.ramp.length / found.length))];
    return {
      of: decade.map(d => found.indexOf(d)),
      groups: found.map((d, g) => ({name: `${d}0s`, color: shade(g)})),
      none: "No year tag",
    };
  })(),
  Added: {
    of: songs.day.map(d => Math.min(d, fresh)),
    groups: [...data.days.slice(0, fresh), ...(data.days.length > fresh ? ["Earlier"] : [])].map((name, g) => ({
      name: name === "Earlier" ? name : day(name) || "Unknown",
      color: g < fresh ? data.ramp[g] : undefined,
    })),
    none: "Unknown",
  },
};
for (const way of Object.values(ways)) {
  way.members = way.groups.map(() => []);
  way.rest = [];
  way.of.forEach((g, i) => {
    if (g < 0) way.rest.push(i);
    else for (const each of way.all ? way.all[i] : [g]) way.members[each].push(i);
  });
}

// ---- playlists
// No artist twice in a row where that can be helped, otherwise in the order given; no song twice.
const spaced = list => {
  const left = [...new Set(list)], order = [];
  while (left.length) {
    const last = order.length ? songs.artists[order[order.length - 1]] : [];
    const other = left.findIndex(i => !songs.artists[i].some(a => last.includes(a)));
    order.push(...left.splice(Math.max(other, 0), 1));
  }
  return order;
};
const shuffled = list => {
  const order = [...list];
  for (let i = order.length - 1; i > 0; i--) {
    const j = Math.floor(Math.random() * (i + 1));
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
};
const likeThis = i => spaced([i, ...neighbors(i).map(found => found.song)]);
// The typical song of a group, if it has one, and some of the others.
const few = (members, typical, k = 12) => {
  const others = shuffled(members.filter(i => i !== typical));
  return spaced([...(typical >= 0 ? [typical] : []), ...others].slice(0, k));
};
// As `fastdino playlist` writes them: one_line and _entry in playlists.py.
const oneLine = text => text.replace(/[\p{Cc}\p{Cs}\p{Zl}\p{Zp}\u202a-\u202e\u2066-\u2069\s]+/gu, " ").trim();
const entry = path => /[\p{Cc}\p{Cs}\p{Zl}\p{Zp}\u202a-\u202e\u2066-\u2069\u{10fe80}-\u{10feff}]|\s$|:\/\//u.test(path)
  ? `file://${path.split("/").map(encodeURIComponent).join("/").replace(/%F4%8F%BA%([89AB].)|%F4%8F%BB%([89AB].)/g, ownByte)}` : path;
// A byte that is not UTF-8 is stored as a character, see core/paths.py.
const ownByte = (_, low, high) => `%${low ?? (parseInt(high, 16) + 0x40).toString(16).toUpperCase()}`;
const m3u8 = (name, list) => {
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
  return lines.join("\n") + "\n";
};
const download = (name, list) => {
  const link = make("a");
  link.href = URL.createObjectURL(new Blob([m3u8(name, list)], {type: "audio/x-mpegurl"}));
  link.download = `${oneLine(name).replace(/[\\/:*?"<>|]+/g, " ").trim().slice(0, 80) || "Playlist"}.m3u8`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
};
