// Names on the map: of clusters, and of songs where there is room. Belongs here: which are shown, and
// where. Does not: the points.
import {$, make} from "./dom.js";
import {songs, ways, xs, ys} from "./collection.js";
import {TEXT, seen} from "./theme.js";
import {state} from "./state.js";

const LABELS = 60, TITLES = 70, CROWD = 260;
const CELL = 14;   // pixels; dots are looked up by such squares
const GAP = 3;
// Where in its cluster a name may stand, as shares of the songs to the left and above, the middle first,
// and what each counts against a name that stands over songs of its own alone.
const PLACES = [.5, .3, .7, .15, .85].flatMap(across => [.5, .3, .7, .1, .9].map(down => [across, down, .8 * (Math.abs(across - .5) + Math.abs(down - .5))]))
  .sort((a, b) => a[2] - b[2]);
/** @typedef {import("./map").Scale} Scale */
/** @typedef {{rows: Int32Array, x: Float32Array, y: Float32Array}} Dots songs in view, and where on the window they are */
/** @typedef {{element: HTMLElement, x: number, y: number, dx: number, dy: number}} Label x, y of the map; dx, dy pixels from there */
/** @type {Label[]} */
let labels = [];
/** @type {Map<number, {element: HTMLElement, w: number, h: number}>} */
let names = new Map();
/** @type {HTMLElement[]} */
const titles = [];
const brush = document.createElement("canvas").getContext("2d");

/** @type {(a: import("./types").Box, b: import("./types").Box) => boolean} */
const overlap = (a, b) => a[0] < b[2] + GAP && b[0] < a[2] + GAP && a[1] < b[3] + GAP && b[1] < a[3] + GAP;
/** @type {(sorted: Float32Array, share: number) => number} */
const quantile = (sorted, share) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];

/** How many dots of a cluster, and of all clusters, lie in a box; they are looked up by squares.
 * @type {(dots: Dots, area: import("./types").Box) => (box: import("./types").Box, g: number) => [number, number]} */
const counter = ({rows, x, y}, area) => {
  const of = ways.Cluster.of, across = Math.ceil((area[2] - area[0]) / CELL) + 1, down = Math.ceil((area[3] - area[1]) / CELL) + 1;
  /** @type {(k: number) => number} */
  const cell = k => Math.floor((y[k] - area[1]) / CELL) * across + Math.floor((x[k] - area[0]) / CELL);
  const start = new Int32Array(across * Math.max(down, 1) + 1), order = new Int32Array(rows.length);
  for (let k = 0; k < rows.length; k++) start[cell(k) + 1]++;
  for (let c = 1; c < start.length; c++) start[c] += start[c - 1];
  const next = start.slice();
  for (let k = 0; k < rows.length; k++) order[next[cell(k)]++] = k;
  return ([left, top, right, bottom], g) => {
    let own = 0, all = 0;
    const first = Math.max(0, Math.floor((left - area[0]) / CELL)), last = Math.min(across - 1, Math.floor((right - area[0]) / CELL));
    for (let row = Math.max(0, Math.floor((top - area[1]) / CELL)); row <= Math.min(down - 1, Math.floor((bottom - area[1]) / CELL)); row++) {
      for (let at = start[row * across + first]; at < start[row * across + last + 1]; at++) {
        const k = order[at];
        if (x[k] < left || x[k] > right || y[k] < top || y[k] > bottom || of[rows[k]] < 0) continue;
        all++;
        if (of[rows[k]] === g) own++;
      }
    }
    return [own, all];
  };
};
/** The dots of each cluster: their places in order, across and down.
 * @type {(dots: Dots) => (g: number) => {xs: Float32Array, ys: Float32Array}} */
const sorter = ({rows, x, y}) => {
  const of = ways.Cluster.of, start = new Int32Array(ways.Cluster.groups.length + 1);
  for (let k = 0; k < rows.length; k++) if (of[rows[k]] >= 0) start[of[rows[k]] + 1]++;
  for (let g = 1; g < start.length; g++) start[g] += start[g - 1];
  const next = start.slice(), xs = new Float32Array(rows.length), ys = new Float32Array(rows.length);
  for (let k = 0; k < rows.length; k++) {
    const g = of[rows[k]];
    if (g < 0) continue;
    xs[next[g]] = x[k];
    ys[next[g]++] = y[k];
  }
  return g => ({xs: xs.subarray(start[g], start[g + 1]).sort(), ys: ys.subarray(start[g], start[g + 1]).sort()});
};

/** Names of clusters are made once for each look of the page. */
export const nameClusters = () => {
  $("labels").replaceChildren();
  titles.length = labels.length = 0;
  names = new Map();
  if (state.by !== "Cluster") return;
  ways.Cluster.groups.forEach((group, g) => {
    if (g >= 4 * LABELS) return;
    const element = make("span", group.name);
    element.style.color = seen(group.color || "#888888", TEXT);
    $("labels").append(element);
    names.set(g, {element, w: 0, h: 0});
  });
  for (const label of names.values()) {
    label.w = label.element.offsetWidth;
    label.h = label.element.offsetHeight;
  }
};

/** @type {(drawn: number[], scale: Scale, area: import("./types").Box) => Dots} */
const inView = (drawn, {ax, bx, ay, by}, area) => {
  const rows = new Int32Array(drawn.length), x = new Float32Array(drawn.length), y = new Float32Array(drawn.length);
  let count = 0;
  for (const i of drawn) {
    const px = ax * xs[i] + bx, py = ay * ys[i] + by;
    if (px <= area[0] || px >= area[2] || py <= area[1] || py >= area[3]) continue;
    rows[count] = i;
    x[count] = px;
    y[count++] = py;
  }
  return {rows: rows.subarray(0, count), x: x.subarray(0, count), y: y.subarray(0, count)};
};

/**
 * Choose names for what is in view, the largest clusters first: each over songs of its own, within the
 * edges, and over no other name.
 * @param {number[]} drawn songs
 * @param {Scale} scale where on the window they are
 * @param {import("./types").Box} area what is free of lists and the player
 * @param {import("./types").Box[]} taken
 * @param {{only: number | null, first: number[], titled: boolean, size: number}} what
 */
export const chooseLabels = (drawn, scale, area, taken, {only, first, titled, size}) => {
  placed = null;
  const before = labels, dots = inView(drawn, scale, area), boxes = [...taken], within = counter(dots, area), sorted = sorter(dots);
  labels = [];
  for (const [g, {element, w, h}] of names) {
    if (only !== null && only !== g) continue;
    if (labels.length >= LABELS) break;
    const {xs, ys} = sorted(g);
    // A handful at the edge of the view is not worth a name.
    if (!xs.length || xs.length < Math.min(3, ways.Cluster.members[g].length)) continue;
    let best = null, most = -Infinity;
    for (const [across, down, off] of PLACES) {
      // The middle of it, unless that is full of others.
      if (1 - off <= most) break;
      const x = Math.min(area[2] - w / 2, Math.max(area[0] + w / 2, quantile(xs, across)));
      const y = Math.min(area[3] - h / 2, Math.max(area[1] + h / 2, quantile(ys, down)));
      /** @type {import("./types").Box} */
      const box = [x - w / 2, y - h / 2, x + w / 2, y + h / 2];
      if (boxes.some(other => overlap(box, other))) continue;
      const [own, all] = within(box, g);
      if (own * 2 <= all) continue;
      const score = own / all - off;
      if (score > most) { best = box; most = score; }
    }
    if (!best) continue;
    boxes.push(best);
    labels.push(anchored(element, best[0], best[1], scale));
  }
  if (titled && brush && dots.rows.length <= CROWD) entitle(dots, scale, area, boxes, first, size);
  const shown = new Set(labels.map(({element}) => element));
  for (const {element} of before) if (!shown.has(element)) element.style.visibility = "hidden";
  for (const element of shown) element.style.visibility = "visible";
};

/** A name that stays with its place on the map while that moves.
 * @type {(element: HTMLElement, left: number, top: number, scale: Scale) => Label} */
const anchored = (element, left, top, {ax, bx, ay, by}) => ({element, x: (left - bx) / ax, y: (top - by) / ay, dx: 0, dy: 0});

/** @type {(dots: Dots, scale: Scale, area: import("./types").Box, boxes: import("./types").Box[], first: number[], size: number) => void} */
const entitle = ({rows, x: xs, y: ys}, {ax, bx, ay, by}, area, boxes, first, size) => {
  if (!brush) return;
  const style = getComputedStyle($("labels"));
  brush.font = `${.82 * parseFloat(style.fontSize)}px ${style.fontFamily}`;
  const high = 1.3 * parseFloat(style.fontSize), rank = new Map(first.map((i, k) => [i, k])), all = [...rows.keys()];
  const around = all.map(k => /** @type {import("./types").Box} */ ([xs[k] - size / 2, ys[k] - size / 2, xs[k] + size / 2, ys[k] + size / 2]));
  const order = all.sort((a, b) => (rank.get(rows[a]) ?? 1e9) - (rank.get(rows[b]) ?? 1e9) || a - b);
  let used = 0;
  for (const k of order) {
    if (used >= TITLES) break;
    const i = rows[k], x = xs[k], y = ys[k], text = songs.title[i].length > 34 ? `${songs.title[i].slice(0, 32)}…` : songs.title[i];
    const wide = brush.measureText(text).width + 4, gap = size / 2 + 4;
    for (const [left, top] of [[x + gap, y - high / 2], [x - gap - wide, y - high / 2], [x - wide / 2, y + gap], [x - wide / 2, y - gap - high]]) {
      /** @type {import("./types").Box} */
      const box = [left, top, left + wide, top + high];
      if (left < area[0] || top < area[1] || box[2] > area[2] || box[3] > area[3]) continue;
      if (boxes.some(other => overlap(box, other)) || around.some((dot, j) => j !== k && overlap(box, dot))) continue;
      boxes.push(box);
      if (!titles[used]) { titles[used] = make("span", "", "title"); $("labels").append(titles[used]); }
      titles[used].textContent = text;
      labels.push({element: titles[used], x: songs.x[i], y: songs.y[i], dx: left - ax * songs.x[i] - bx, dy: top - ay * songs.y[i] - by});
      used++;
      break;
    }
  }
};

/** Where names stand now, and where the map is seen from since.
 * @type {Scale | null} */
let placed = null;
/** Put names where they belong now: all together while the map is only shifted.
 * @type {(scale: Scale) => void} */
export const placeLabels = scale => {
  const {ax, bx, ay, by} = scale;
  if (!placed || Math.abs(placed.ax / ax - 1) > 1e-6 || Math.abs(placed.ay / ay - 1) > 1e-6) {
    for (const {element, x, y, dx, dy} of labels) {
      element.style.transform = `translate(${ax * x + bx + dx}px, ${ay * y + by + dy}px)`;
    }
    placed = scale;
  }
  $("labels").style.transform = `translate(${bx - placed.bx}px, ${by - placed.by}px)`;
};
