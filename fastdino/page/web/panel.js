// The list beside the map: groups, one group, a song and its nearest, what is played, the collection.

const LISTED = 200;   // rows of songs at a time
const box = $("view");
// Where one is: {tab, group, song, lens}; a group is its number, -1 for songs without one.
let here = {tab: "Groups"}, before = [];
const moments = {song: null, at: 0, found: null};   // found: null while asking

const button = (text, label, onClick, className, symbol) => {
  const element = make("button", undefined, className);
  if (symbol) element.append(icon(symbol));
  if (text) element.append(make("span", text));
  if (label) element.setAttribute("aria-label", label);
  element.onclick = onClick;
  return element;
};
const dot = color => { const i = make("i", undefined, "dot"); i.style.background = color || grey(); return i; };

// ---- going somewhere, and back
// A group's number says nothing without the way of grouping that it is of.
const group = by => { if (by !== shown.by) { shown.by = by; nameGroups(); } };
const go = (place, by = shown.by) => {
  if (JSON.stringify(place) !== JSON.stringify(here)) before.push({place: here, by: shown.by, scroll: box.scrollTop});
  group(by);
  before = before.slice(-50);
  here = place;
  $("query").value = "";
  show();
  box.scrollTop = 0;
};
const back = () => {
  if ($("query").value) { $("query").value = ""; show(); return; }
  const last = before.pop();
  here = last ? last.place : {tab: "Groups"};
  if (last) group(last.by);
  show();
  box.scrollTop = last ? last.scroll : 0;
};
// A song was chosen: it plays, and what is like it is listed.
const open = song => {
  go({tab: "Song", song, lens: "songs"});
  play([song, ...neighbors(song).map(found => found.song)], 0, `Like ${songs.title[song]}`);
  bring(song);
};
const openGroup = (by, group) => go({tab: "Groups", group}, by);

// ---- rows
// One row a song; entries are songs, or {song, from, similarity}.
const rows = (entries, name, detail) => {
  const list = make("ol", undefined, "songs");
  entries.slice(0, LISTED).forEach((entry, k) => {
    const i = entry.song ?? entry;
    const row = make("li"), hear = button("", `Play ${spoken(i)}`, () => play(entries, k, name), "hear", "play");
    const bars = make("span", undefined, "bars");
    bars.append(make("i"), make("i"), make("i"));
    hear.append(bars);
    const what = button("", `${spoken(i)}: what is like it`, () => open(i), "what");
    what.append(make("b", songs.title[i]), make("span", [artist(i), album(i)].filter(Boolean).join(" · ") || "Unknown artist"));
    row.dataset.song = i;
    row.append(hear, what, detail ? detail(entry) : make("span", clock(songs.seconds[i]), "detail"));
    row.onmouseenter = what.onfocus = () => mark("pointed", i);
    row.onmouseleave = what.onblur = () => mark("pointed", null);
    list.append(row);
  });
  if (entries.length > LISTED) list.append(make("li", `and ${count(entries.length - LISTED)} more`, "rest"));
  return list;
};
const meter = similarity => {
  const element = make("span", undefined, "detail meter"), bar = make("i");
  bar.style.width = `${Math.round(100 * Math.max(0, similarity))}%`;
  element.title = `Similarity ${similarity.toFixed(2)}`;
  element.append(bar);
  return element;
};
const actions = (...buttons) => { const element = make("div", undefined, "actions"); element.append(...buttons); return element; };
const heading = (text, color) => {
  const element = make("h2");
  if (color !== undefined) element.append(dot(color));
  element.append(make("span", text));
  return element;
};
const backButton = () => button("", "Back", back, "back", "back");
const switcher = (label, names, chosen, onChoose) => {
  const element = make("div", undefined, "switch");
  element.setAttribute("role", "group");
  element.setAttribute("aria-label", label);
  for (const [name, text] of names) {
    const one = button(text, "", () => onChoose(name));
    one.setAttribute("aria-pressed", name === chosen);
    element.append(one);
  }
  return element;
};

// ---- views: each returns elements, and what it emphasises on the map
const allGroups = () => {
  const way = ways[shown.by], list = make("ul", undefined, "groups");
  const add = (g, name, color, members, typical) => {
    const row = make("li"), what = button("", `${name}, ${counted(members.length, "song")}`, () => go({tab: "Groups", group: g}), "what");
    what.append(make("b", name));
    if (typical >= 0) what.append(make("span", [songs.title[typical], artist(typical)].filter(Boolean).join(" · ")));
    const hear = button("", `Play a few of ${name}`, () => playFew(g), "hear", "play");
    hear.title = "Play a few";
    row.append(dot(color), what, make("span", count(members.length), "detail"), hear);
    list.append(row);
  };
  way.groups.forEach((group, g) => add(g, group.name, group.color, way.members[g], group.typical ?? -1));
  if (way.rest.length) add(-1, way.none, null, way.rest, -1);
  const choose = by => { shown.by = by; nameGroups(); show(); box.scrollTop = 0; };
  return [switcher("Colour by", Object.keys(ways).map(name => [name, name]), shown.by, choose), list];
};
const groupOf = g => g < 0
  ? {name: ways[shown.by].none, members: ways[shown.by].rest, typical: -1}
  : {typical: -1, ...ways[shown.by].groups[g], members: ways[shown.by].members[g]};
const playFew = g => {
  const {name, members, typical} = groupOf(g);
  play(few(members, typical), 0, `A few of ${name}`);
  bring(playing());
};
const oneGroup = g => {
  const {name, color, members, typical} = groupOf(g);
  shown.emphasis = new Set(members);
  shown.group = g;
  const list = typical >= 0 ? [typical, ...members.filter(i => i !== typical)] : members;
  const seconds = members.reduce((sum, i) => sum + (songs.seconds[i] || 0), 0);
  const top = make("div", undefined, "top");
  top.append(backButton(), heading(name, color ?? null));
  return [
    top,
    make("p", `${counted(members.length, "song")} · ${lasting(seconds)}${typical >= 0 ? " · the first is its typical song" : ""}`, "facts"),
    actions(
      button("Play a few", "", () => playFew(g), "strong", "play"),
      button("Download playlist", "", () => download(name, spaced(list)), "", "save"),
    ),
    rows(list, name),
  ];
};
const oneSong = ({song, lens}) => {
  const found = neighbors(song), name = `Like ${songs.title[song]}`;
  shown.song = song;
  shown.near = found.map(each => each.song);
  const top = make("div", undefined, "top"), g = ways.Cluster.of[song];
  top.append(backButton(), heading(songs.title[song]));
  const facts = make("p", undefined, "facts");
  const parts = [album(song), songs.year[song], genre(song), clock(songs.seconds[song])].filter(Boolean).join(" · ");
  songs.artists[song].forEach((a, k) => {
    if (k) facts.append("; ");
    facts.append(button(data.artists[a], `All by ${data.artists[a]}`, () => openGroup("Artist", a), "link"));
  });
  if (songs.artists[song].length) facts.append(make("br"));
  facts.append(parts);
  const chip = button(g < 0 ? ways.Cluster.none : ways.Cluster.groups[g].name, "", () => openGroup("Cluster", g), "chip");
  chip.prepend(dot(g < 0 ? null : ways.Cluster.groups[g].color));
  const asked = moments.song === song;
  const lenses = [["songs", "Songs like it"], ["moments", asked ? `Moments like ${clock(moments.at)}` : "Moments"]];
  return [
    top, facts, chip,
    actions(
      button("Play like this", "", () => play(likeThis(song), 0, name), "strong", "play"),
      button("Download playlist", "", () => download(name, likeThis(song)), "", "save"),
    ),
    switcher("What is like it", lenses, lens, to => { here.lens = to; show(); }),
    ...(lens === "songs" ? likeSongs(found, name) : likeMoments(song)),
  ];
};
const likeSongs = (found, name) => found.length
  ? [rows(found, name, each => meter(each.similarity))]
  : [make("p", "Its nearest songs are not known yet.", "empty")];
const likeMoments = song => {
  if (moments.song !== song) {
    return [make("p", "Play it, and choose a place on its bar: songs that sound like that moment are listed here.", "empty")];
  }
  if (!moments.found) return [make("p", "Listening …", "empty")];
  if (moments.found.error) return [make("p", moments.found.error, "empty")];
  const entries = moments.found.moments.map(m => ({song: rowOf.get(m.song), from: m.from_s, similarity: m.similarity}));
  shown.near = entries.map(entry => entry.song);
  return [rows(entries, `Moments like ${clock(moments.at)} of ${songs.title[song]}`, entry => {
    const detail = make("span", undefined, "detail");
    detail.append(make("span", clock(entry.from)), meter(entry.similarity));
    return detail;
  })];
};
const queue = () => {
  if (player.at < 0) return [make("p", "Nothing is playing. Click a song on the map, or let a group play a few of its songs.", "empty")];
  return [
    heading(player.name || "Playing"),
    make("p", `${counted(player.queue.length, "song")}, played one after the other`, "facts"),
    actions(button("Download playlist", "", () => download(player.name, player.queue.map(entry => entry.song)), "", "save")),
    rows(player.queue, player.name),
  ];
};
const matches = text => {
  const found = search(text);
  if (!found.length) return [make("p", "Nothing is called like that.", "empty")];
  shown.emphasis = new Set(found);
  return [
    make("p", counted(found.length, "song"), "facts"),
    actions(
      button("Play", "Play what was found", () => play(found, 0, text), "strong", "play"),
      button("Download playlist", "", () => download(text, found), "", "save"),
    ),
    rows(found, text),
  ];
};

// ---- the collection over time
const chart = (label, trace, layout) => {
  const element = make("div", undefined, "chart"), soft = dark() ? "#a3a9b5" : "#626875";
  element.setAttribute("role", "img");
  element.setAttribute("aria-label", label);
  const axes = {gridcolor: dark() ? "rgba(255,255,255,.09)" : "rgba(29,33,41,.08)", zeroline: false, fixedrange: true, tickfont: {size: 11}};
  setTimeout(() => element.isConnected && Plotly.newPlot(element, trace, {
    height: 170, margin: {l: 40, r: 10, t: 8, b: 28}, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: {color: soft, family: "inherit"}, showlegend: false, ...layout,
    xaxis: {...axes, showgrid: false, ...layout.xaxis}, yaxis: {...axes, rangemode: "tozero", ...layout.yaxis},
  }, {displayModeBar: false, responsive: true}));
  return element;
};
const collection = () => {
  const parts = [heading("Growth")], accent = data.palette[4], soft = grey();
  let total = 0;
  const grown = data.growth.map(([, songs]) => total += songs), dates = data.growth.map(([date]) => date);
  const last = data.growth.at(-1);
  if (last) {
    const came = dates.length > 1 ? `since ${day(dates[0])}, the last ${count(last[1])} on ${day(last[0])}` : `, added on ${day(last[0])}`;
    parts.push(make("p", `${counted(total, "song")} ${came}.`.replace(" ,", ","), "facts"));
    if (dates.length > 1) parts.push(chart("Number of songs over time", [{
      x: dates, y: grown, mode: "lines", line: {color: accent, width: 2, shape: "hv"}, fill: "tozeroy", hovertemplate: "%{y:,} songs<extra>%{x}</extra>",
    }], {}));
  }
  const judged = data.models.filter(model => model[4] !== null), current = data.models.find(model => model[2]);
  parts.push(heading("How well it hears"));
  if (current && current[4] !== null) {
    const percent = value => `${Math.round(100 * value)} %`;
    const floor = current[5] === null ? "" : `; with plain averages of the spectrogram, ${percent(current[5])}`;
    parts.push(make("p", `The nearest song is by the same artist for ${percent(current[4])} of the songs${floor}.`, "facts"));
  }
  if (judged.length > 1) parts.push(chart("Share of songs whose nearest song is by the same artist, model after model", [{
    x: judged.map((_, k) => k), y: judged.map(model => model[5]), mode: "lines", line: {color: soft, dash: "dot"}, hovertemplate: "plain averages %{y:.0%}<extra></extra>",
  }, {
    x: judged.map((_, k) => k), y: judged.map(model => model[4]), text: judged.map(model => model[0]), mode: "lines+markers",
    line: {color: accent, width: 2}, marker: {size: judged.map(model => model[2] ? 11 : 7)}, hovertemplate: "%{y:.0%}<extra>%{text}</extra>",
  }], {
    yaxis: {tickformat: ".0%"},
    xaxis: {tickvals: judged.map((_, k) => k), ticktext: judged.map(model => day(model[1])?.replace(/ \d+$/, "")), range: [-.5, judged.length - .5]},
  }));
  if (current) parts.push(make("p", `Model ${current[0]}, trained on ${counted(current[3] ?? 0, "song")} of yours on ${day(current[1])}.`, "facts"));
  if (data.failures.length) {
    parts.push(heading(`Something is wrong with ${counted(data.counts.failures, "file")}`));
    const list = make("ul", undefined, "failures");
    for (const [where, stage, reason] of data.failures) {
      const row = make("li");
      row.append(make("div", where), make("div", `${stage}: ${reason}`, "soft"));
      list.append(row);
    }
    parts.push(list);
    if (data.failures.length < data.counts.failures) {
      parts.push(make("p", `The first ${count(data.failures.length)} are shown; all are in the table failures of music.duckdb.`, "facts"));
    }
  }
  return parts;
};

// ---- putting it there
const tabs = {
  Groups: () => go({tab: "Groups"}),
  Song: () => playing() !== null && go({tab: "Song", song: playing(), lens: "songs"}),
  Queue: () => go({tab: "Queue"}),
  Collection: () => go({tab: "Collection"}),
};
const show = () => {
  const wanted = $("query").value.trim();
  Object.assign(shown, {emphasis: null, song: null, near: [], group: undefined});
  const parts = wanted ? matches(wanted)
    : here.tab === "Song" ? oneSong(here)
    : here.tab === "Queue" ? queue()
    : here.tab === "Collection" ? collection()
    : here.group !== undefined ? oneGroup(here.group) : allGroups();
  for (const element of box.querySelectorAll(".chart")) Plotly.purge(element);
  box.replaceChildren(...parts);
  marked.pointed = null;   // A row that is taken away is not left.
  for (const tab of $("tabs").children) tab.setAttribute("aria-pressed", !wanted && tab.dataset.tab === here.tab);
  markPlaying();
  draw();
};
const markPlaying = () => {
  const now = playing();
  for (const row of box.querySelectorAll(".songs li")) row.classList.toggle("playing", +row.dataset.song === now);
  $("tabs").querySelector("[data-tab=Song]").disabled = now === null;
};
const onPlaying = () => { if (here.tab === "Queue" && !$("query").value) show(); else markPlaying(); };

// Where else does it sound like this second of the song that is playing?
const askMoments = async at => {
  const song = playing();
  if (song === null) return;
  Object.assign(moments, {song, at, found: null});
  go({tab: "Song", song, lens: "moments"});
  const found = await momentsLike(song, at);
  if (moments.song !== song || moments.at !== at) return;   // Asked about another one since.
  moments.found = found;
  if (playing() === song && !found.error) stretch([found.from_s, found.to_s]);
  if (here.tab === "Song" && here.song === song && !$("query").value) show();
};

const startPanel = () => {
  for (const [name, onClick] of Object.entries(tabs)) {
    const tab = button(name, "", onClick);
    tab.dataset.tab = name;
    $("tabs").append(tab);
  }
  let waiting = 0;
  $("query").oninput = () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => { show(); box.scrollTop = 0; }, n > 20_000 ? 250 : 90);
  };
  // The words of a large collection are sorted before anyone types.
  $("query").onfocus = () => setTimeout(index);
  $("now").onclick = () => { if (playing() !== null) { go({tab: "Song", song: playing(), lens: "songs"}); bring(playing()); } };
  $("grip").onclick = () => {
    const tall = document.querySelector("aside").classList.toggle("tall");
    $("grip").setAttribute("aria-expanded", tall);
    $("grip").setAttribute("aria-label", tall ? "Make the list shorter" : "Make the list taller");
  };
  nameGroups();
  show();
};
