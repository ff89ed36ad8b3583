// Names on the map: of clusters, and of songs where there is room. Belongs here: which are shown, and
// where. Does not: the points.
import {$, make} from "./dom.js";
import {songs, ways} from "./collection.js";
import {TEXT, seen} from "./theme.js";
import {state} from "./state.js";

const LABELS = 60, TITLES = 70, CROWD = 260;
const CELL = 14;   // pixels; dots are looked up by such squares
const GAP = 3;
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
/** @type {(sorted: number[], share: number) => number} */
const quantile = (sorted, share) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];

/** How many dots, of each cluster and in all, lie in a box.
 * @type {(inside: {i: number, x: number, y: number}[]) => (box: import("./types").Box, g: number) => [number, number]} */
const counter = inside => {
  /** @type {Map<number, {i: number, x: number, y: number}[]>} */
  const cells = new Map();
  for (const dot of inside) {
    const key = Math.floor(dot.x / CELL) * 4096 + Math.floor(dot.y / CELL), cell = cells.get(key);
    if (cell) cell.push(dot); else cells.set(key, [dot]);
  }
  return (box, g) => {
    let own = 0, all = 0;
    for (let x = Math.floor(box[0] / CELL); x <= Math.floor(box[2] / CELL); x++) {
      for (let y = Math.floor(box[1] / CELL); y <= Math.floor(box[3] / CELL); y++) {
        for (const dot of cells.get(x * 4096 + y) || []) {
          if (dot.x < box[0] || dot.x > box[2] || dot.y < box[1] || dot.y > box[3]) continue;
          if (ways.Cluster.of[dot.i] === g) own++;
          if (ways.Cluster.of[dot.i] >= 0) all++;
        }
      }
    }
    return [own, all];
  };
};

/** Names of clusters are made once for each look of the page. */
export const nameClusters = () => {
  $("labels").replaceChildren();
  titles.length = 0;
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

/**
 * Choose names for what is in view, the largest clusters first: each over songs of its own, within the
 * edges, and over no other name.
 * @param {number[]} drawn songs
 * @param {(i: number) => [number, number]} pixel where a song is
 * @param {import("./types").Box} area what is free of lists and the player
 * @param {import("./types").Box[]} taken
 * @param {{only: number | null, first: number[], titled: boolean, size: number}} what
 */
export const chooseLabels = (drawn, pixel, area, taken, {only, first, titled, size}) => {
  for (const {element} of names.values()) element.style.visibility = "hidden";
  for (const element of titles) element.style.visibility = "hidden";
  labels = [];
  /** @type {{i: number, x: number, y: number}[]} */
  const inside = [];
  for (const i of drawn) {
    const [x, y] = pixel(i);
    if (x > area[0] && x < area[2] && y > area[1] && y < area[3]) inside.push({i, x, y});
  }
  const boxes = [...taken], within = counter(inside);
  /** @type {Map<number, {xs: number[], ys: number[]}>} */
  const parts = new Map();
  for (const {i, x, y} of inside) {
    const g = ways.Cluster.of[i], part = parts.get(g) || {xs: [], ys: []};
    part.xs.push(x);
    part.ys.push(y);
    parts.set(g, part);
  }
  for (const [g, {element, w, h}] of names) {
    const part = parts.get(g);
    if (!part || (only !== null && only !== g) || labels.length >= LABELS) continue;
    // A handful at the edge of the view is not worth a name.
    if (part.xs.length < Math.min(3, ways.Cluster.members[g].length)) continue;
    const xs = part.xs.sort((a, b) => a - b), ys = part.ys.sort((a, b) => a - b);
    let best = null, most = 0;
    for (const across of [.5, .3, .7, .15, .85]) for (const down of [.5, .3, .7, .1, .9]) {
      const x = Math.min(area[2] - w / 2, Math.max(area[0] + w / 2, quantile(xs, across)));
      const y = Math.min(area[3] - h / 2, Math.max(area[1] + h / 2, quantile(ys, down)));
      /** @type {import("./types").Box} */
      const box = [x - w / 2, y - h / 2, x + w / 2, y + h / 2];
      if (boxes.some(other => overlap(box, other))) continue;
      const [own, all] = within(box, g);
      if (own * 2 <= all) continue;
      // The middle of it, unless that is full of others.
      const score = own / all - .8 * (Math.abs(across - .5) + Math.abs(down - .5));
      if (!best || score > most) { best = {x, y, box}; most = score; }
    }
    if (!best) continue;
    boxes.push(best.box);
    labels.push(anchored(element, best.x - w / 2, best.y - h / 2, inside, pixel));
  }
  if (titled && brush && inside.length <= CROWD) entitle(inside, pixel, area, boxes, first, size);
  for (const {element} of labels) element.style.visibility = "visible";
};

/** A name that stays with the song that is nearest to it while the map moves.
 * @type {(element: HTMLElement, x: number, y: number, inside: {i: number, x: number, y: number}[], pixel: (i: number) => [number, number]) => Label} */
const anchored = (element, x, y, inside, pixel) => {
  let song = inside[0].i, least = Infinity;
  for (const each of inside) {
    const far = (each.x - x) ** 2 + (each.y - y) ** 2;
    if (far < least) { least = far; song = each.i; }
  }
  const [px, py] = pixel(song);
  return {element, x: songs.x[song], y: songs.y[song], dx: x - px, dy: y - py};
};

/** @type {(inside: {i: number, x: number, y: number}[], pixel: (i: number) => [number, number], area: import("./types").Box, boxes: import("./types").Box[], first: number[], size: number) => void} */
const entitle = (inside, pixel, area, boxes, first, size) => {
  if (!brush) return;
  const style = getComputedStyle($("labels"));
  brush.font = `${.82 * parseFloat(style.fontSize)}px ${style.fontFamily}`;
  const high = 1.3 * parseFloat(style.fontSize), rank = new Map(first.map((i, k) => [i, k]));
  const dots = inside.map(({x, y}) => /** @type {import("./types").Box} */ ([x - size / 2, y - size / 2, x + size / 2, y + size / 2]));
  const order = [...inside.keys()].sort((a, b) => (rank.get(inside[a].i) ?? 1e9) - (rank.get(inside[b].i) ?? 1e9) || a - b);
  let used = 0;
  for (const k of order) {
    if (used >= TITLES) break;
    const {i, x, y} = inside[k], text = songs.title[i].length > 34 ? `${songs.title[i].slice(0, 32)}…` : songs.title[i];
    const wide = brush.measureText(text).width + 4, gap = size / 2 + 4;
    for (const [left, top] of [[x + gap, y - high / 2], [x - gap - wide, y - high / 2], [x - wide / 2, y + gap], [x - wide / 2, y - gap - high]]) {
      /** @type {import("./types").Box} */
      const box = [left, top, left + wide, top + high];
      if (left < area[0] || top < area[1] || box[2] > area[2] || box[3] > area[3]) continue;
      if (boxes.some(other => overlap(box, other)) || dots.some((dot, j) => j !== k && overlap(box, dot))) continue;
      boxes.push(box);
      if (!titles[used]) { titles[used] = make("span", "", "title"); $("labels").append(titles[used]); }
      titles[used].textContent = text;
      labels.push({element: titles[used], x: songs.x[i], y: songs.y[i], dx: left - pixel(i)[0], dy: top - pixel(i)[1]});
      used++;
      break;
    }
  }
};

/** Put names where they belong now.
 * @type {(at: (x: number, y: number) => [number, number]) => void} */
export const placeLabels = at => {
  for (const {element, x, y, dx, dy} of labels) {
    const [px, py] = at(x, y);
    element.style.transform = `translate(${px + dx}px, ${py + dy}px)`;
  }
};
