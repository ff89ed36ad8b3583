// The map: points, the names of groups, the song that is open and its nearest, what is under the pointer.

const narrow = matchMedia("(max-width: 820px)"), prefersDark = matchMedia("(prefers-color-scheme: dark)");
const dark = () => {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : prefersDark.matches;
};
const grey = () => dark() ? "#5d636f" : "#b4b7c0";
const ink = () => dark() ? "#f2f3f6" : "#1d2129";

// Beyond so many points a computer without a graphics card does not pan smoothly. Of more, those in
// view are drawn, then those around it; of too many in view a sample, always the same one.
const AT_ONCE = 30_000;
const LABELS = 60;
const map = $("map");
const webgl = (() => { try { return !!document.createElement("canvas").getContext("webgl"); } catch { return false; } })();

// What is emphasised: a set of songs, or null for all alike; the open song; its nearest.
const shown = {by: "Cluster", emphasis: null, song: null, near: []};
let drawn = [], fullSpan = 0;

const bounds = (() => {
  const low = values => values.reduce((a, b) => Math.min(a, b), Infinity);
  const high = values => values.reduce((a, b) => Math.max(a, b), -Infinity);
  const box = n ? [low(songs.x), high(songs.x), low(songs.y), high(songs.y)] : [0, 1, 0, 1];
  const pad = .04 * Math.max(box[1] - box[0], box[3] - box[2]) || 1;
  return {x: [box[0] - pad, box[1] + pad], y: [box[2] - pad, box[3] + pad]};
})();
// Room that lists and the player leave, from each side of the map.
const margin = () => {
  const panel = document.querySelector("aside").getBoundingClientRect();
  const player = document.querySelector("footer").getBoundingClientRect();
  return narrow.matches
    ? {l: 18, r: 18, t: 74, b: innerHeight * .54 + 14}   // Even while the list is made taller.
    : {l: 36, r: innerWidth - panel.left + 28, t: 92, b: innerHeight - player.top + 52};
};
const view = () => map._fullLayout
  ? {x: [...map._fullLayout.xaxis.range], y: [...map._fullLayout.yaxis.range]}
  : bounds;
const pixel = i => {
  const {xaxis, yaxis} = map._fullLayout;
  return [xaxis._offset + xaxis.l2p(songs.x[i]), yaxis._offset + yaxis.l2p(songs.y[i])];
};
// Points cover a like share of the map whatever its size, and grow as one comes nearer.
const pointSize = () => {
  const {l, r, t, b} = margin(), {x} = view(), zoom = fullSpan ? fullSpan / (x[1] - x[0]) : 1;
  const room = Math.sqrt(Math.max(1, (innerWidth - l - r) * (innerHeight - t - b)) / (n || 1));
  return Math.max(2.6, Math.min(14, .28 * room)) * Math.max(1, Math.min(2.4, Math.sqrt(zoom)));
};

// ---- which songs are drawn
const sampleOrder = (() => {
  if (n <= AT_ONCE) return null;
  const order = Uint32Array.from({length: n}, (_, i) => i);
  let seed = 1;   // The same sample each time: points must not dance.
  for (let i = n - 1; i > 0; i--) {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    const j = seed % (i + 1), kept = order[i];
    order[i] = order[j];
    order[j] = kept;
  }
  return order;
})();
const choose = () => {
  if (!sampleOrder) return drawn.length ? drawn : Array.from({length: n}, (_, i) => i);
  const {x, y} = view(), w = x[1] - x[0], h = y[1] - y[0], inside = [], around = [];
  for (const i of sampleOrder) {
    const dx = songs.x[i] - x[0], dy = songs.y[i] - y[0];
    if (dx >= 0 && dx <= w && dy >= 0 && dy <= h) inside.push(i);
    else if (dx > -w && dx < 2 * w && dy > -h && dy < 2 * h) around.push(i);
  }
  const sampled = inside.filter((i, at) => at < AT_ONCE || shown.emphasis?.has(i));
  $("sampled").textContent = sampled.length < inside.length
    ? `${count(sampled.length)} of ${count(inside.length)} songs here are drawn: zoom in for all` : "";
  return sampled.concat(around.slice(0, Math.max(0, AT_ONCE - sampled.length)));
};

// ---- drawing
const colorOf = () => {
  const way = ways[shown.by], none = grey();
  const own = way.groups.map(group => group.color || none);
  return i => way.of[i] < 0 ? none : own[way.of[i]];
};
const axis = {visible: false, zeroline: false, showgrid: false};
// On a window of another shape the whole map is shown anew if it was before.
let refits = 0;
const refit = () => {
  const {x} = view(), whole = Math.abs(x[1] - x[0] - fullSpan) < .02 * fullSpan, latest = ++refits;
  Plotly.Plots.resize(map).then(() => {
    if (latest !== refits) return;   // Plotly answers all that asked while a window was dragged.
    if (whole) fullSpan = 0;
    draw(whole ? bounds : view());
  });
};
const draw = ({x, y} = view()) => {
  if (!n) return;
  drawn = choose();
  const color = colorOf(), way = ways[shown.by], near = new Set(shown.near);
  const stands = shown.song === null ? shown.emphasis : null;
  const opacity = i => {
    if (shown.song !== null) return i === shown.song || near.has(i) ? 1 : .3;
    if (stands) return stands.has(i) ? 1 : .16;
    return way.of[i] < 0 || !way.groups[way.of[i]].color ? .5 : .92;
  };
  const line = ink(), star = {x: [], y: []};
  for (const i of shown.near) {
    star.x.push(songs.x[shown.song], songs.x[i], null);
    star.y.push(songs.y[shown.song], songs.y[i], null);
  }
  const rings = shown.song === null ? [] : [shown.song, ...shown.near];
  Plotly.react(map, [{
    type: webgl ? "scattergl" : "scatter", mode: "markers",
    x: drawn.map(i => songs.x[i]), y: drawn.map(i => songs.y[i]),
    marker: {color: drawn.map(color), opacity: drawn.map(opacity), size: pointSize(), line: {width: 0}},
  }, {
    type: "scatter", mode: "lines", ...star, line: {color: line, width: 1}, opacity: .28,
  }, {
    type: "scatter", mode: "markers",
    x: rings.map(i => songs.x[i]), y: rings.map(i => songs.y[i]),
    marker: {
      color: rings.map(color), size: rings.map((_, j) => Math.max(pointSize(), 7) * (j ? 1.15 : 1.7)),
      line: {color: line, width: rings.map((_, j) => j ? 1.2 : 2)}, opacity: 1,
    },
  }], {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", margin: margin(), dragmode: "pan",
    hovermode: false, showlegend: false,
    xaxis: {...axis, range: x}, yaxis: {...axis, range: y, scaleanchor: "x"},
  }, {scrollZoom: true, displayModeBar: false, doubleClick: false});
  if (!fullSpan) { const {x} = view(); fullSpan = x[1] - x[0]; }
  place();
};

// ---- names on the map: the largest groups first, each where it does not cover another
const median = (values, members) => members.map(i => values[i]).sort((a, b) => a - b)[members.length >> 1];
let labels = [];
const nameGroups = () => {
  $("labels").replaceChildren();
  labels = shown.by !== "Cluster" ? [] : ways.Cluster.groups.map((group, g) => {
    const element = make("span", group.name);
    $("labels").append(element);
    return {g, element, x: median(songs.x, ways.Cluster.members[g]), y: median(songs.y, ways.Cluster.members[g])};
  });
  for (const label of labels) {
    label.w = label.element.offsetWidth / 2 + 3;
    label.h = label.element.offsetHeight / 2 + 2;
  }
};
const place = () => {
  if (!map._fullLayout || !n) return;
  const {xaxis, yaxis} = map._fullLayout, {r, b} = margin(), heading = document.querySelector("header").getBoundingClientRect();
  const taken = [[heading.left, heading.top, heading.right, heading.bottom]];
  const one = shown.emphasis && shown.group !== undefined ? shown.group : null;
  const quiet = shown.song !== null;
  if (quiet) {
    const [x, y] = pixel(shown.song);
    taken.push([x - 14, y - 14, x + 14, y + 14]);
  }
  for (const label of labels) {
    const x = xaxis._offset + xaxis.l2p(label.x), y = yaxis._offset + yaxis.l2p(label.y);
    const box = [x - label.w, y - label.h, x + label.w, y + label.h];
    const free = taken.length <= LABELS && (one === null || one === label.g) && box[0] > 0 && box[1] > 0 &&
      box[2] < innerWidth - r + 20 && box[3] < innerHeight - b + 20 &&
      taken.every(t => box[2] < t[0] || box[0] > t[2] || box[3] < t[1] || box[1] > t[3]);
    label.element.style.visibility = free ? "visible" : "hidden";
    label.element.style.opacity = quiet ? .4 : 1;
    if (!free) continue;
    taken.push(box);
    label.element.style.transform = `translate(${x}px, ${y}px) translate(-50%, -50%)`;
  }
  spots();
};

// ---- marks over the map: the song that is playing, and the one that is pointed at in a list
const marked = {playing: null, pointed: null};
const spots = () => {
  for (const [name, song] of Object.entries(marked)) {
    const spot = $(`${name}-spot`);
    spot.hidden = song === null || !map._fullLayout;
    if (spot.hidden) continue;
    const [x, y] = pixel(song);
    spot.style.transform = `translate(${x}px, ${y}px)`;
    spot.style.color = ways[shown.by].of[song] < 0 ? grey() : ways[shown.by].groups[ways[shown.by].of[song]].color || grey();
  }
};
const mark = (name, song) => { marked[name] = song; spots(); };

// ---- moving
const move = (x, y) => Plotly.relayout(map, {"xaxis.range": x, "yaxis.range": y});
const zoom = factor => {
  const {x, y} = view();
  const around = ([a, b]) => { const c = (a + b) / 2, half = (b - a) / 2 / factor; return [c - half, c + half]; };
  move(around(x), around(y));
};
const showAll = () => move(bounds.x, bounds.y);
// Bring a song into view, if it is not.
const bring = song => {
  if (!map._fullLayout) return;
  const {x, y} = view(), to = ([a, b], c) => c > a && c < b ? [a, b] : [c - (b - a) / 2, c + (b - a) / 2];
  const there = [to(x, songs.x[song]), to(y, songs.y[song])];
  if (there[0][0] !== x[0] || there[1][0] !== y[0]) move(...there);
};

// ---- what is under the pointer
const tip = $("tip");
const showTip = (i, x, y) => {
  tip.replaceChildren(make("b", songs.title[i]));
  if (artist(i)) tip.append(make("div", artist(i)));
  const more = [album(i), genre(i), songs.year[i]].filter(Boolean).join(" · ");
  if (more) tip.append(make("div", more));
  const g = ways.Cluster.of[i], line = make("div", undefined, "group"), dot = make("i");
  dot.style.background = g < 0 ? grey() : ways.Cluster.groups[g].color;
  line.append(dot, make("span", g < 0 ? ways.Cluster.none : ways.Cluster.groups[g].name));
  tip.append(line);
  tip.style.display = "block";
  tip.style.left = `${Math.min(x + 16, innerWidth - tip.offsetWidth - 8)}px`;
  tip.style.top = `${y + tip.offsetHeight + 96 > innerHeight ? y - tip.offsetHeight - 12 : y + 14}px`;
};
const hideTip = () => { tip.style.display = "none"; };

// Found here and not by Plotly, which waits between two looks: a quick click would hit what was
// under the pointer before.
const REACH = 14;
const songAt = (clientX, clientY) => {
  const {xaxis, yaxis} = map._fullLayout, [left, bottom] = [xaxis.range[0], yaxis.range[0]];
  const wide = xaxis._length / (xaxis.range[1] - left), high = yaxis._length / (yaxis.range[1] - bottom);
  const x = clientX - xaxis._offset, y = yaxis._offset + yaxis._length - clientY;
  let found = null, least = REACH * REACH;
  for (const i of drawn) {
    const dx = (songs.x[i] - left) * wide - x, dy = (songs.y[i] - bottom) * high - y;
    const distance = dx * dx + dy * dy;
    if (distance < least) { found = i; least = distance; }
  }
  return found;
};

const startMap = onClick => {
  if (!n) { $("empty").hidden = false; return; }
  // A click is a press that has hardly moved, with one finger.
  let pressed = null, fingers = 0;
  map.addEventListener("pointerdown", event => {
    fingers = event.isPrimary ? 1 : fingers + 1;
    pressed = event.button === 0 && fingers === 1 ? event : null;
    hideTip();
  }, true);
  addEventListener("pointerup", event => {
    const still = pressed && Math.hypot(event.clientX - pressed.clientX, event.clientY - pressed.clientY) < 6;
    pressed = null;
    const song = still ? songAt(event.clientX, event.clientY) : null;
    if (song !== null) onClick(song);
  }, true);
  let looking = 0;
  map.addEventListener("pointermove", event => {
    if (event.pointerType === "touch" || event.buttons || looking) return;
    looking = requestAnimationFrame(() => {
      looking = 0;
      const song = songAt(event.clientX, event.clientY);
      map.classList.toggle("on-song", song !== null);
      if (song === null) hideTip(); else showTip(song, event.clientX, event.clientY);
    });
  });
  map.addEventListener("pointerleave", hideTip);
  map.on("plotly_doubleclick", showAll);
  map.on("plotly_relayouting", place);
  let drawnSize = pointSize();
  map.on("plotly_relayout", () => {
    const redraw = sampleOrder || Math.abs(pointSize() - drawnSize) > .3;
    drawnSize = pointSize();
    if (redraw) draw(); else place();
  });
};
