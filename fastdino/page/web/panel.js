// The list beside the map: groups, one group, a song and its nearest, the queue, what is picked or
// found. Belongs here: the views, and showing the one that is wanted. Does not: rows; the map.
import {$, button, clock, count, counted, lasting, make, say} from "./dom.js";
import {album, albumArtist, data, files, genre, groupOf, n, neighbors, rowOf, served, songs, ways} from "./collection.js";
import {actions, dot, groupRow, heading, lookAtGroup, look, meter, pick, playFew, playOf, queueRows, rows, switcher, topWithBack} from "./rows.js";
import {alterPlace, go, searchSoon} from "./address.js";
import {append, canUndo, clear, playNext, setEndless, shuffle, undo} from "./queue.js";
import {audio, likeSong, momentsLike, play, stretch} from "./player.js";
import {bring} from "./map.js";
import {change, follow, playing, state} from "./state.js";
import {collection} from "./charts.js";
import {download, likeThis, shuffled, spaced} from "./playlists.js";
import {hits} from "./looking.js";
import {index, searchGroups} from "./search.js";

const GROUPS = 500;   // listed at a time, the largest
/** @type {HTMLElement} */
const box = $("view");
/** The button for a playlist as a file, which names files and so is for this computer alone.
 * @type {(save: () => void) => HTMLElement[]} */
const saving = save => files().folders.length ? [button("Download playlist", "", save, "", "save")] : [];
/** What can be done with a list of songs.
 * @type {(list: number[], name: string, strong?: HTMLElement, ...more: HTMLElement[]) => HTMLElement} */
const doing = (list, name, strong, ...more) => actions(
  strong ?? button("Play all", "", () => play(list, 0, name), "strong", "play"),
  ...more,
  button("Add to queue", "", () => { append(list); say(`${counted(list.length, "song")} added to the queue`); }, "", "add"),
  ...(state.place.tab === "Picked" && !state.query ? [] : [button("Pick all", "", () => pick([...list, ...state.selected], false))]),
  ...saving(() => download(name, spaced(list))),
);

const allGroups = () => {
  const way = ways[state.by], list = make("ul", undefined, "groups");
  for (let g = 0; g < Math.min(way.groups.length, GROUPS); g++) list.append(groupRow(state.by, g));
  if (way.groups.length > GROUPS) list.append(make("li", `and ${count(way.groups.length - GROUPS)} more, which the search finds`, "rest"));
  if (way.rest.length) list.append(groupRow(state.by, -1));
  return [switcher("Colour by", Object.keys(ways).map(name => [name, name]), state.by, by => alterPlace({by})), list];
};
/** @type {(of: string, g: number) => HTMLElement[]} */
const oneGroup = (of, g) => {
  const {name, color, members, typical} = groupOf(of, g);
  const list = typical >= 0 ? [typical, ...members.filter(i => i !== typical)] : members;
  const seconds = members.reduce((sum, i) => sum + (songs.seconds[i] || 0), 0);
  const kind = of === "Cluster" ? "" : of === "Album" && g >= 0 ? `${of} · ${albumArtist(g)} · ` : `${of} · `;
  return [
    topWithBack(name, of === state.by ? color ?? null : undefined),
    make("p", `${kind}${counted(members.length, "song")} · ${lasting(seconds)}${typical >= 0 ? " · the first is its typical song" : ""}`, "facts"),
    doing(list, name, undefined,
      button("Play a few", "", () => playFew(of, g)),
      button("Shuffle", "", () => play(shuffled(list), 0, name), "", "shuffle")),
    rows(list, name),
  ];
};
/** @type {(place: import("./types").Place) => HTMLElement[]} */
const oneSong = ({song = 0, lens}) => {
  const name = `Like ${songs.title[song]}`, g = ways.Cluster.of[song], facts = make("p", undefined, "facts"), now = playing();
  songs.artists[song].forEach((a, k) => {
    if (k) facts.append("; ");
    facts.append(button(data.artists[a], `${data.artists[a]}: all songs`, () => lookAtGroup("Artist", a), "link"));
  });
  // Where there is room the artists have a line of their own.
  if (songs.artists[song].length) facts.append(make("br"), make("span", " · ", "between"));
  const parts = [songs.year[song], genre(song), clock(songs.seconds[song])].filter(Boolean).join(" · ");
  if (album(song)) facts.append(button(album(song) || "", `${album(song)}: all songs`, () => lookAtGroup("Album", songs.album[song]), "link"), " · ");
  facts.append(parts);
  const chip = button(g < 0 ? ways.Cluster.none : ways.Cluster.groups[g].name, "", () => lookAtGroup("Cluster", g), "chip");
  chip.prepend(dot(g < 0 ? null : ways.Cluster.groups[g].color));
  const asked = state.moments.song === song;
  return [
    topWithBack(songs.title[song]), facts, chip,
    actions(
      button("Play", "", () => likeSong(song), "strong", "play"),
      button("Play next", "", () => { playNext([song]); say(`${songs.title[song]} plays next`); }),
      button("Add to queue", "", () => { append([song]); say(`${songs.title[song]} is in the queue`); }, "", "add"),
      ...saving(() => download(name, likeThis(song))),
      ...(served && now !== null && now !== song ? [button("Way here from what plays", "", () => journey(`way?song=${songs.id[now]}&song=${songs.id[song]}`, `From ${songs.title[now]} to ${songs.title[song]}`))] : []),
    ),
    switcher("What is like it", [["songs", "Songs like it"], ["moments", asked ? `Moments like ${clock(state.moments.at)}` : "Moments"]], lens || "songs",
      to => alterPlace({place: {...state.place, lens: to}})),
    ...(lens === "moments" ? likeMoments(song) : likeSongs(song, name)),
  ];
};
/** @type {(song: number, name: string) => HTMLElement[]} */
const likeSongs = (song, name) => {
  const found = neighbors(song).map(each => ({...each, from: 0}));
  return found.length ? [rows(found, name, each => meter(each.similarity ?? 0))]
    : [make("p", "Its nearest songs are not known yet.", "empty")];
};
/** @type {(song: number) => HTMLElement[]} */
const likeMoments = song => {
  const {found, at, song: of} = state.moments;
  if (of !== song) {
    return [make("p", served ? "Play it, and press the button with the waves below, or M, where it sounds as you like: songs that sound like that moment are listed here."
      : "Finding moments needs the server: run “make report”.", "empty")];
  }
  if (!found) return [make("p", "Listening …", "empty")];
  if (found.error) return [make("p", found.error, "empty")];
  const entries = found.moments.map(m => ({song: rowOf.get(m.song) ?? 0, from: m.from_s, similarity: m.similarity}));
  return [rows(entries, `Moments like ${clock(at)} of ${songs.title[song]}`, entry => {
    const detail = make("span", undefined, "detail");
    detail.append(make("span", clock(entry.from)), meter(entry.similarity ?? 0));
    return detail;
  })];
};
const queue = () => {
  const parts = [], list = state.queue.map(entry => entry.song), left = list.slice(state.at + 1);
  const back = button("Undo", "", undo, "", "undo");
  back.disabled = !canUndo();
  const endless = button("Go on with what is alike", "", () => setEndless(!state.endless), "toggle", "endless");
  endless.setAttribute("aria-pressed", String(state.endless));
  const surprise = served ? [button("Surprise me", "", () => journey("surprise", "A surprise"))] : [];
  if (!list.length) {
    return [make("p", "Nothing is in the queue. Double-click a song on the map, or let a group play a few of its songs.", "empty"), actions(back, endless, ...surprise)];
  }
  const seconds = left.reduce((sum, i) => sum + (songs.seconds[i] || 0), 0);
  parts.push(heading(state.name || "Your queue"),
    make("p", `${counted(left.length, "song")} to come${left.length ? ` · ${lasting(seconds)}` : ""}`, "facts"));
  const mix = button("Shuffle", "", shuffle, "", "shuffle"), empty = button("Clear", "", clear, "", "away");
  mix.disabled = left.length < 2;
  empty.disabled = list.length < 2;
  parts.push(actions(mix, empty, back, endless, ...surprise, ...saving(() => download(state.name, list))), queueRows());
  return parts;
};
const selection = () => {
  const list = state.selected, name = `${counted(list.length, "song")} picked`;
  if (!list.length) return [make("p", "Nothing is picked. Press S where the keyboard is, click songs with Ctrl held, or draw a loop around them with Shift held. Where there is no keyboard, press Pick on the map: taps then pick, and a finger draws the loop.", "empty")];
  const ids = list.map(i => `song=${songs.id[i]}`);
  return [
    heading(name),
    make("p", "Pick one more, or put one back, with S, with a click while Ctrl is held, or with Pick on the map.", "facts"),
    doing(list, name, undefined,
      ...(served && list.length > 1 ? [
        button("Way from the first to the last", "", () => journey(`way?${ids[0]}&${ids.at(-1)}`, `From ${songs.title[list[0]]} to ${songs.title[list[list.length - 1]]}`)),
        button("What is like all of them", "", () => journey(`blend?${ids.slice(0, 50).join("&")}`, "A blend")),
      ] : []),
      button("Pick none", "", () => { change({selected: []}); go({tab: "Groups"}); }, "", "away")),
    rows(list, name),
  ];
};
const matches = () => {
  const found = hits(), groups = searchGroups(state.query), parts = [];
  for (const {of, kind, found} of groups) {
    const list = make("ul", undefined, "groups");
    for (const g of found) list.append(groupRow(of, g));
    parts.push(make("h2", kind, "kind"), list);
  }
  if (!found.length && !parts.length) return [make("p", n < data.counts.on_map
    ? `Nothing is called like that among the ${count(n)} songs of this page, which are a sample. “fastdino similar” and music.duckdb know all.`
    : "Nothing is called like that.", "empty")];
  // Songs first where the words are of a title.
  const titled = [
    make("h2", counted(found.length, "song"), "kind"),
    doing(found, state.query, button("Play all", "", () => play(found, 0, state.query), "strong", "play")),
    rows(found, state.query),
  ];
  return found.length ? [...parts, ...titled] : parts;
};

/** Songs in an order that the server finds: they are queued.
 * @type {(asked: string, name: string) => Promise<void>} */
const journey = async (asked, name) => {
  /** @type {string} */
  let wrong;
  try {
    const answer = await fetch(`/journey/${asked}`);
    if (answer.ok) {
      const list = (await answer.json()).songs.map((/** @type {string} */ id) => rowOf.get(id)).filter((/** @type {number | undefined} */ i) => i !== undefined);
      if (list.length) { play(list, 0, name); go({tab: "Queue"}); return; }
      wrong = "No songs were found.";
    } else wrong = await answer.text();
  } catch { wrong = "The server is gone: run “make report” again."; }
  $("missing").textContent = wrong;
  $("missing").hidden = false;
  say(wrong);
};

// ---- putting it there
let lastSong = -1;   // that was looked at
/** @type {Record<string, () => void>} */
const tabs = {
  Groups: () => go({tab: "Groups"}),
  Song: () => { const song = lastSong >= 0 ? lastSong : playing(); if (song !== null) go({tab: "Song", song, lens: "songs"}); },
  Queue: () => go({tab: "Queue"}),
  Picked: () => go({tab: "Picked"}),
  Collection: () => go({tab: "Collection"}),
};
const show = () => {
  const {place, query} = state, within = box.contains(document.activeElement);
  if (place.tab === "Song" && place.song !== undefined) lastSong = place.song;
  const parts = query ? matches()
    : place.tab === "Song" ? oneSong(place)
    : place.tab === "Queue" ? queue()
    : place.tab === "Picked" ? selection()
    : place.tab === "Collection" ? collection()
    : place.of && place.group !== undefined ? oneGroup(place.of, place.group) : allGroups();
  for (const element of box.querySelectorAll(".chart")) Plotly.purge(element);
  const held = within ? nameOf(document.activeElement) : null;
  box.replaceChildren(...parts);
  // Focus is never lost with what had it: it goes to the same thing anew, or to the heading.
  if (within) {
    const same = held && [...box.querySelectorAll("button")].find(each => nameOf(each) === held);
    (same || box.querySelector("h2") || box).focus({preventScroll: true});
  }
  if (state.pointed !== null && !box.querySelector(":hover, :focus")) change({pointed: null});   // A row that is taken away is not left.
  for (const tab of $("tabs").children) tab.setAttribute("aria-pressed", String(!query && tab.dataset.tab === place.tab));
  mark();
};
/** @type {(element: Element | null) => string | null} */
const nameOf = element => element?.closest(".switch, .actions") ? `${element.getAttribute("aria-label") || element.textContent}` : null;
/** What plays, and which tabs lead somewhere. */
const mark = () => {
  const now = playing();
  for (const row of box.querySelectorAll(".songs li")) {
    const {song, k} = /** @type {HTMLElement} */ (row).dataset;
    row.classList.toggle("picked", state.place.tab !== "Picked" && state.selected.includes(Number(song)));
    row.classList.toggle("playing", k === undefined ? Number(song) === now && now !== null : Number(k) === state.at);
  }
  $("tabs").querySelector("[data-tab=Song]").disabled = now === null && lastSong < 0;
  const picked = $("tabs").querySelector("[data-tab=Picked]");
  picked.hidden = !state.selected.length && state.place.tab !== "Picked";
};

/** Where else does it sound like this second of the song that is playing? */
export const askMoments = async (at = audio.currentTime) => {
  const song = playing();
  if (song === null) return;
  change({moments: {song, at, found: null}});
  go({tab: "Song", song, lens: "moments"});
  const found = await momentsLike(song, at);
  if (state.moments.song !== song || state.moments.at !== at) return;   // Asked about another one since.
  change({moments: {song, at, found}});
  if (playing() === song && !found.error) stretch([found.from_s, found.to_s]);
};

const TWICE = 400;   // ms
/** A second click on a row plays it, though the first has led to another list. */
const hearDoubleClicks = () => {
  /** @type {{play: () => void, at: number, x: number, y: number} | null} */
  let last = null;
  box.addEventListener("click", event => {
    const target = /** @type {HTMLElement} */ (event.target);
    if (last && event.timeStamp - last.at < TWICE && Math.hypot(event.clientX - last.x, event.clientY - last.y) < 8 && event.detail) {
      last.play();
      last = null;
      event.stopPropagation();
      event.preventDefault();
      return;
    }
    const row = target.closest(".what")?.closest(".songs li"), onPlay = row && playOf.get(row);
    last = onPlay && event.detail && !event.ctrlKey && !event.metaKey && !state.picking ? {play: onPlay, at: event.timeStamp, x: event.clientX, y: event.clientY} : null;
  }, true);
};

export const startPanel = () => {
  for (const [name, onClick] of Object.entries(tabs)) {
    const tab = button(name, "", onClick);
    tab.dataset.tab = name;
    $("tabs").append(tab);
  }
  $("query").oninput = () => searchSoon(n > 20_000 ? 250 : 90);
  // The words of a large collection are sorted before anyone types.
  $("query").onfocus = () => setTimeout(index);
  $("now").onclick = () => { const song = playing(); if (song !== null) look(song); };
  $("grip").onclick = () => {
    const tall = $("panel").classList.toggle("tall");
    $("grip").setAttribute("aria-expanded", String(tall));
    $("grip").setAttribute("aria-label", tall ? "Make the list shorter" : "Make the list taller");
  };
  hearDoubleClicks();
  show();
  follow(["place", "query", "by", "dark", "moments"], () => { if (!state.query || $("query").value.trim() === state.query) show(); });
  follow(["selected"], () => { if (state.place.tab === "Picked" && !state.query) show(); else mark(); });
  follow(["place"], () => { $("missing").hidden = true; });
  follow(["queue", "at", "name", "endless"], () => {
    if (state.place.tab !== "Queue" || state.query) { mark(); return; }
    const {scrollTop} = box;
    show();
    box.scrollTop = scrollTop;
  });
  if (state.place.song !== undefined) bring(state.place.song);
};
