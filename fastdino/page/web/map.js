// The map: points, what is under the pointer, legends. Belongs here: drawing and moving it, and what was
// clicked on it. Does not: what a click does; the look of what stands out.
import {$, count, make} from "./dom.js";
import {album, artist, data, genre, n, songs, ways, xs, ys} from "./collection.js";
import {DOT, grey, seen} from "./theme.js";
import {chooseLabels, nameClusters, placeLabels} from "./labels.js";
import {drawMarks, marked, moveMarks} from "./marks.js";
import {follow, playing, state} from "./state.js";
import {looked} from "./looking.js";

// The list lies under the map in windows that are tall, and beside it in all others.
const sheet = matchMedia("(max-width: 820px) and (min-height: 561px)");
const bare = matchMedia("(max-width: 560px) and (max-height: 560px)");   // no room for a map

// Beyond so many points a computer without a graphics card does not pan smoothly. Of more, those in
// view are drawn, then those around it; of too many in view a sample, always the same one.
const AT_ONCE = 30_000;
const RINGED = 300;   // hits that have a ring
/** @type {any} */
export const map = $("map");
const webgl = (() => { try { return !!document.createElement("canvas").getContext("webgl"); } catch { return false; } })();
/** @type {number[]} */
export const drawn = [];
/** Where those are on the map: what is asked at every move of the pointer lies side by side. */
let places = {x: new Float64Array(), y: new Float64Array()};
let fullSpan = 0, size = 0;   // of the whole map; of a point as it was drawn last
/** @typedef {{x: number[], y: number[]}} View */

/** @type {(rows: Iterable<number>) => View} */
const around = rows => {
  const box = [Infinity, -Infinity, Infinity, -Infinity];
  for (const i of rows) {
    box[0] = Math.min(box[0], songs.x[i]);
    box[1] = Math.max(box[1], songs.x[i]);
    box[2] = Math.min(box[2], songs.y[i]);
    box[3] = Math.max(box[3], songs.y[i]);
  }
  const pad = .05 * Math.max(box[1] - box[0], box[3] - box[2]) || 1;
  return {x: [box[0] - pad, box[1] + pad], y: [box[2] - pad, box[3] + pad]};
};
const bounds = n ? around(songs.id.keys()) : {x: [0, 1], y: [0, 1]};
/** Room that lists and the player leave, from each side of the map. */
export const margin = () => {
  const panel = document.querySelector("aside")?.getBoundingClientRect() ?? new DOMRect();
  const player = document.querySelector("footer")?.getBoundingClientRect() ?? new DOMRect();
  const head = document.querySelector("header")?.getBoundingClientRect() ?? new DOMRect();
  if (bare.matches) return {l: 0, r: 0, t: 0, b: 0};
  // A legend has the room that it takes.
  const key = $("legend").hidden ? 0 : innerHeight - $("legend").getBoundingClientRect().top + 10;
  return sheet.matches
    ? {l: 18, r: 18, t: head.bottom + 14, b: Math.max(key, innerHeight * .54 + 14)}   // Even while the list is made taller.
    : {l: 36, r: innerWidth - panel.left + 28, t: head.bottom + 16, b: Math.max(key, innerHeight - player.top + (innerHeight > 560 ? 52 : 14))};
};
/** @type {() => View} */
export const view = () => map._fullLayout
  ? {x: [...map._fullLayout.xaxis.range], y: [...map._fullLayout.yaxis.range]}
  : bounds;
/** @typedef {{ax: number, bx: number, ay: number, by: number}} Scale A place x, y of the map is at ax * x + bx, ay * y + by of the window. */
/** @type {() => Scale} */
const scale = () => {
  const {xaxis, yaxis} = map._fullLayout;
  const [ax, ay] = [xaxis, yaxis].map(({range, l2p}) => (l2p(range[1]) - l2p(range[0])) / (range[1] - range[0]));
  return {ax, bx: xaxis._offset + xaxis.l2p(xaxis.range[0]) - ax * xaxis.range[0], ay, by: yaxis._offset + yaxis.l2p(yaxis.range[0]) - ay * yaxis.range[0]};
};
/** @type {(i: number) => [number, number]} */
export const pixel = i => {
  const {ax, bx, ay, by} = scale();
  return [ax * songs.x[i] + bx, ay * songs.y[i] + by];
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
/** @type {() => Iterable<number>} */
const choose = () => {
  if (!sampleOrder) return songs.id.keys();
  const {x, y} = view(), w = x[1] - x[0], h = y[1] - y[0], inside = [], around = [];
  for (const i of sampleOrder) {
    const dx = xs[i] - x[0], dy = ys[i] - y[0];
    if (dx >= 0 && dx <= w && dy >= 0 && dy <= h) inside.push(i);
    else if (dx > -w && dx < 2 * w && dy > -h && dy < 2 * h) around.push(i);
  }
  $("sampled").textContent = inside.length > AT_ONCE
    ? `${count(AT_ONCE)} of ${count(inside.length)} songs here are drawn: zoom in for all` : "";
  return inside.length < AT_ONCE ? inside.concat(around.slice(0, AT_ONCE - inside.length)) : inside.slice(0, AT_ONCE);
};

// ---- drawing
/** @type {() => (i: number) => string} */
const colorOf = () => {
  const way = ways[state.by], none = grey(), tints = way.tints;
  if (tints) return i => { const tint = tints[i]; return tint ? seen(tint, DOT) : none; };
  const own = way.groups.map(group => group.color ? seen(group.color, DOT) : none);
  return i => way.of[i] < 0 ? none : own[way.of[i]];
};
/** The colour of a song as the map shows it now.
 * @type {(i: number) => string} */
let color = grey;
const axis = {visible: false, zeroline: false, showgrid: false};
// On a window of another shape the whole map is shown anew if it was before.
let refits = 0;
export const refit = () => {
  const {x} = view(), whole = Math.abs(x[1] - x[0] - fullSpan) < .02 * fullSpan, latest = ++refits;
  Plotly.Plots.resize(map).then(() => {
    if (latest !== refits) return;   // Plotly answers all that asked while a window was dragged.
    if (whole) fullSpan = 0;
    nameClusters();
    draw(whole ? bounds : view());
  });
};
/** @type {(to?: View) => void} */
const draw = ({x, y} = view()) => {
  if (!n) return;
  drawn.length = 0;
  for (const i of choose()) drawn.push(i);
  places = {x: new Float64Array(drawn.length), y: new Float64Array(drawn.length)};
  drawn.forEach((i, k) => { places.x[k] = xs[i]; places.y[k] = ys[i]; });
  size = pointSize();
  Plotly.react(map, [{
    type: webgl ? "scattergl" : "scatter", mode: "markers", ...places,
    marker: {color: drawn.map(color), opacity: 1, size, line: {width: 0}},
  }], {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", margin: margin(), dragmode: "pan",
    hovermode: false, showlegend: false,
    // Copies: Plotly writes into what it is given.
    xaxis: {...axis, range: [...x]}, yaxis: {...axis, range: [...y], scaleanchor: "x"},
  }, {scrollZoom: true, displayModeBar: false, doubleClick: false});
  if (!fullSpan) { const {x} = view(); fullSpan = x[1] - x[0]; }
  settle();
};
/** Show what is looked at. The points stay as they are and step back together: to draw them anew takes
 * much longer than to draw over them. */
const standOut = () => {
  if (!n) return;
  const {emphasis, song, near, line} = looked();
  map.style.opacity = song !== null ? .4 : emphasis ? .22 : 1;
  marked.dots = emphasis ? [...emphasis] : [];
  marked.rings = song !== null ? [song, ...near] : marked.dots.length <= RINGED && marked.dots.length < n ? marked.dots : [];
  marked.star = song !== null;
  marked.line = line;
  settle();
};

// ---- names and marks over the map
// Names are chosen anew after the picture is there, once for all that was asked for till then.
let unsettled = 0;
const settle = () => {
  if (!map._fullLayout || !n) return;
  drawMarks(scale(), map._fullLayout._size, size, color);
  moved();
  if (!unsettled) unsettled = requestAnimationFrame(() => { unsettled = 0; name(); });
};
const name = () => {
  room = margin();
  const {l, r, t, b} = room, {x} = view(), {song, near, cluster} = looked();
  for (const [side, value] of Object.entries({left: l, right: r, top: t, bottom: b})) $("fade").style[side] = `${value}px`;
  const boxOf = (/** @type {Element | null} */ element) => {
    const {left, top, right, bottom} = element?.getBoundingClientRect() ?? new DOMRect();
    return /** @type {import("./types").Box} */ ([left, top, right, bottom]);
  };
  const taken = [boxOf(document.querySelector("header")), boxOf($("zoom")), boxOf($("legend"))];
  for (const i of [song, playing()]) if (i !== null) {
    const [px, py] = pixel(i);
    taken.push([px - 12, py - 12, px + 12, py + 12]);
  }
  const now = playing(), first = [...(song === null ? [] : [song]), ...(now === null ? [] : [now]), ...near, ...marked.dots.slice(0, 60)];
  chooseLabels(drawn, scale(), [Math.max(4, l - 24), t - 12, Math.min(innerWidth - 4, innerWidth - r + 20), innerHeight - b + 12], taken, {
    only: cluster, first, titled: fullSpan / (x[1] - x[0]) > 1.4 || n < 60, size,
  });
  moved();
};
const moved = () => { placeLabels(scale()); moveMarks(scale()); spots(); };
let room = {l: 0, r: 0, t: 0, b: 0};   // as the map was drawn last
const spots = () => {
  for (const [name, song] of Object.entries({playing: playing(), pointed: state.pointed})) {
    const spot = $(`${name}-spot`);
    spot.hidden = song === null || !map._fullLayout;
    if (song === null || spot.hidden) continue;
    const [x, y] = pixel(song), {l, r, t, b} = room;
    // Not over the list, when its song lies beyond the edge of the view.
    spot.hidden = x < l - 16 || x > innerWidth - r + 16 || y < t - 16 || y > innerHeight - b + 16;
    spot.style.transform = `translate(${x}px, ${y}px)`;
    spot.style.color = color(song);
  }
};
const legend = () => {
  const way = ways[state.by], box = $("legend"), colored = way.groups.filter(group => group.color);
  box.replaceChildren();
  if (state.by === "Cluster" || !way.groups.length) { box.hidden = true; return; }
  box.hidden = false;
  box.append(make("b", state.by));
  const none = make("span", undefined, "key"), spot = make("i");
  spot.style.background = grey();
  none.append(spot, make("span", colored.length < way.groups.length && !way.tints ? "Others" : way.none));
  if (way.tints && way.ends) {
    const scale = make("span", undefined, "scale"), bar = make("i");
    bar.style.background = `linear-gradient(90deg, ${[...data.ramp].reverse().map(color => seen(color, DOT)).join(", ")})`;
    scale.append(make("span", way.ends[0]), bar, make("span", way.ends[1]));
    box.append(scale);
  } else for (const group of colored) {
    const key = make("span", undefined, "key"), dot = make("i");
    dot.style.background = seen(group.color || "", DOT);
    key.append(dot, make("span", group.name));
    box.append(key);
  }
  if (way.rest.length || (colored.length < way.groups.length && !way.tints)) box.append(none);
};

// ---- moving
/** @type {(to: View) => void} */
const move = ({x, y}) => Plotly.relayout(map, {"xaxis.range": [...x], "yaxis.range": [...y]});
/** @type {(factor: number) => void} */
export const zoom = factor => {
  if (!n) return;
  const {x, y} = view();
  /** @type {(span: number[]) => number[]} */
  const nearer = ([a, b]) => { const c = (a + b) / 2, half = (b - a) / 2 / factor; return [c - half, c + half]; };
  move({x: nearer(x), y: nearer(y)});
};
export const showAll = () => { if (n) move(bounds); };
/** Bring a song into view, if it is not.
 * @type {(song: number) => void} */
export const bring = song => {
  if (!map._fullLayout) return;
  const {x, y} = view();
  /** @type {(span: number[], c: number) => number[]} */
  const to = ([a, b], c) => c > a && c < b ? [a, b] : [c - (b - a) / 2, c + (b - a) / 2];
  const there = {x: to(x, songs.x[song]), y: to(y, songs.y[song])};
  if (there.x[0] !== x[0] || there.y[0] !== y[0]) move(there);
};
/** @type {View | null} */
let before = null;   // the view from which hits were framed
const frame = () => {
  const {emphasis, frame: wanted} = looked();
  if (!wanted) {
    if (before) { const to = before; before = null; move(to); }
    return;
  }
  if (!emphasis?.size || emphasis.size > n / 2) return;
  before ||= view();
  const {x, y} = around(emphasis), least = fullSpan / 6;
  /** A single hit is shown with what is around it.
   * @type {(span: number[]) => number[]} */
  const wide = ([a, b]) => b - a > least ? [a, b] : [(a + b - least) / 2, (a + b + least) / 2];
  move({x: wide(x), y: wide(y)});
};

// ---- what is under the pointer
const tip = $("tip");
let tipOf = -1, tipWide = 0, tipHigh = 0;
/** @type {(i: number) => void} */
const fillTip = i => {
  tip.replaceChildren(make("b", songs.title[i]));
  if (artist(i)) tip.append(make("div", artist(i)));
  const more = [album(i), genre(i), songs.year[i]].filter(Boolean).join(" · ");
  if (more) tip.append(make("div", more));
  const g = ways.Cluster.of[i], line = make("div", undefined, "group"), dot = make("i");
  dot.style.background = g < 0 ? grey() : seen(ways.Cluster.groups[g].color || "", DOT);
  line.append(dot, make("span", g < 0 ? ways.Cluster.none : ways.Cluster.groups[g].name));
  tip.append(line);
  tip.style.display = "block";
  tipOf = i;
  tipWide = tip.offsetWidth;
  tipHigh = tip.offsetHeight;
};
/** @type {(i: number, x: number, y: number) => void} */
const showTip = (i, x, y) => {
  if (tipOf !== i) fillTip(i);
  tip.style.transform = `translate(${Math.min(x + 16, innerWidth - tipWide - 8)}px, ${y + tipHigh + 96 > innerHeight ? y - tipHigh - 12 : y + 14}px)`;
};
const hideTip = () => { tipOf = -1; tip.style.display = "none"; };

// Found here and not by Plotly, which waits between two looks: a quick click would hit what was
// under the pointer before.
const REACH = 14;
/** @type {(clientX: number, clientY: number) => number | null} */
const songAt = (clientX, clientY) => {
  let found = null, least = REACH * REACH;
  const {ax, bx, ay, by} = scale(), {x, y} = places;
  for (let k = 0; k < x.length; k++) {
    const dx = ax * x[k] + bx - clientX, dy = ay * y[k] + by - clientY;
    const distance = dx * dx + dy * dy;
    if (distance < least) { found = drawn[k]; least = distance; }
  }
  // Of more songs than are drawn, what stands out is there even so.
  if (sampleOrder) for (const list of [marked.dots, marked.rings]) for (const i of list) {
    const dx = ax * xs[i] + bx - clientX, dy = ay * ys[i] + by - clientY;
    const distance = dx * dx + dy * dy;
    if (distance < least) { found = i; least = distance; }
  }
  return found;
};
/** Songs within a loop that was drawn around them, also those that a sample leaves out.
 * @type {(loop: [number, number][]) => number[]} */
const within = loop => {
  const {ax, bx, ay, by} = scale();
  return [...songs.id.keys()].filter(i => {
    const x = ax * xs[i] + bx, y = ay * ys[i] + by;
    let inside = false;
    for (let a = 0, b = loop.length - 1; a < loop.length; b = a++) {
      const [x1, y1] = loop[a], [x2, y2] = loop[b];
      if (y1 > y !== y2 > y && x < (x2 - x1) * (y - y1) / (y2 - y1) + x1) inside = !inside;
    }
    return inside;
  });
};

const TWICE = 400, HELD = 550, REST = 120;   // ms
/**
 * @param {{look: (song: number) => void, play: (song: number) => void, pick: (songs: number[], more: boolean) => void}} does
 */
export const startMap = ({look, play, pick}) => {
  if (!n) { $("empty").hidden = false; return; }
  if (!webgl) $("sampled").textContent = "No WebGL: the map is slower";
  // A click is a press that has hardly moved, with one finger.
  /** @type {PointerEvent | null} */
  let pressed = null;
  let fingers = 0, last = {song: -1, at: -TWICE};
  /** @type {[number, number][] | null} */
  let loop = null;
  const endLoop = () => { loop = null; $("lasso").hidden = true; };
  let holding = 0;
  map.addEventListener("pointerdown", (/** @type {PointerEvent} */ event) => {
    fingers = event.isPrimary ? 1 : fingers + 1;
    pressed = event.button === 0 && fingers === 1 ? event : null;
    hideTip();
    clearTimeout(holding);
    if (fingers > 1) endLoop();
    if (pressed && event.pointerType === "touch") holding = setTimeout(() => {
      const song = pressed && songAt(pressed.clientX, pressed.clientY);
      if (song === null) return;
      pressed = null;
      endLoop();
      pick([song], true);
    }, HELD);
    if (pressed && (event.shiftKey || state.picking)) { loop = [[event.clientX, event.clientY]]; event.stopPropagation(); }
  }, true);
  // Plotly pans from the mouse's own events.
  for (const name of ["mousedown", "touchstart"]) map.addEventListener(name, (/** @type {Event} */ event) => {
    if (!loop) return;
    event.stopPropagation();
    event.preventDefault();   // Nor may the browser take it for a gesture, whose end would swallow the next tap.
  }, true);
  addEventListener("pointermove", event => {
    if (pressed && Math.hypot(event.clientX - pressed.clientX, event.clientY - pressed.clientY) > 6) clearTimeout(holding);
    if (!loop) return;
    loop.push([event.clientX, event.clientY]);
    $("lasso").hidden = false;
    $("lasso").firstElementChild.setAttribute("points", loop.map(point => point.join(",")).join(" "));
  }, true);
  addEventListener("pointerup", event => {
    const drawnLoop = loop, from = pressed, more = event.ctrlKey || event.metaKey || state.picking;
    pressed = null;
    clearTimeout(holding);
    endLoop();
    /** @type {(x: number, y: number) => boolean} */
    const near = (x, y) => from !== null && Math.hypot(x - from.clientX, y - from.clientY) < 6;
    // A loop ends where it began, but was elsewhere.
    const still = near(event.clientX, event.clientY) && (!drawnLoop || drawnLoop.every(([x, y]) => near(x, y)));
    if (drawnLoop && !still) { pick(within(drawnLoop), more); return; }
    const song = still ? songAt(event.clientX, event.clientY) : null;
    if (song === null) return;
    if (more) { pick([song], true); return; }
    const twice = last.song === song && event.timeStamp - last.at < TWICE;
    last = {song, at: event.timeStamp};
    if (twice) play(song); else look(song);
  }, true);
  addEventListener("pointercancel", () => { pressed = null; clearTimeout(holding); endLoop(); }, true);
  let looking = 0;
  map.addEventListener("pointermove", (/** @type {PointerEvent} */ event) => {
    if (event.pointerType === "touch" || event.buttons || looking) return;
    looking = requestAnimationFrame(() => {
      looking = 0;
      const song = songAt(event.clientX, event.clientY);
      map.classList.toggle("on-song", song !== null);
      if (song === null) hideTip(); else showTip(song, event.clientX, event.clientY);
    });
  });
  map.addEventListener("pointerleave", hideTip);
  color = colorOf();
  legend();
  nameClusters();
  draw();
  standOut();
  map.on("plotly_doubleclick", () => { if (performance.now() - last.at > TWICE) showAll(); });
  map.on("plotly_relayouting", moved);
  let resting = 0;
  map.on("plotly_relayout", () => {
    if (!sampleOrder && Math.abs(pointSize() - size) <= .3) { settle(); return; }
    // Points are drawn anew once the wheel rests: till then those that there are move along.
    moved();
    clearTimeout(resting);
    resting = setTimeout(draw, REST);
  });
  follow(["by", "dark"], () => { color = colorOf(); legend(); nameClusters(); draw(); });
  follow(["place", "query", "queue", "selected", "moments"], standOut);
  let waiting = 0;
  follow(["place", "query"], () => {
    clearTimeout(waiting);
    if (state.query) waiting = setTimeout(frame, 300); else frame();
  });
  follow(["at", "queue", "pointed"], spots);
  for (const media of [sheet, bare]) media.addEventListener("change", refit);
  addEventListener("resize", refit);
};
