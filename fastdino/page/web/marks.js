// What stands out on the map: what is found, the song that is open and its nearest, the way of the queue.
// Belongs here: drawing it over the points, which stay as they are. Does not: which songs those are.
import {$} from "./dom.js";
import {xs, ys} from "./collection.js";
import {ink} from "./theme.js";

const FEW = 3000;   // drawn anew at every move; more of them move as a picture, and are painted when that rests
/**
 * @typedef {object} Marked
 * @property {number[]} dots songs that are drawn as they are
 * @property {number[]} rings songs that have a ring
 * @property {boolean} star whether lines lead to the other rings from the first, which is larger
 * @property {number[]} line songs that a dotted line joins
 */
/** @type {Marked} */
export const marked = {dots: [], rings: [], star: false, line: []};
/** @typedef {import("./map").Scale} Scale */
/** @typedef {{l: number, t: number, w: number, h: number}} Room where on the window the map is */

const box = $("marks"), canvas = /** @type {HTMLCanvasElement} */ (box.firstElementChild), brush = canvas.getContext("2d");
/** How the map was drawn last, and where it was seen from.
 * @type {{scale: Scale, room: Room, size: number, color: (i: number) => string} | null} */
let last = null;

/** @typedef {(i: number) => [number, number]} At */
/** Few dots: as shapes.
 * @type {(dots: number[], at: At, size: number, w: number, h: number, color: (i: number) => string) => void} */
const fill = (dots, at, size, w, h, color) => {
  if (!brush) return;
  // All of a colour at once: one by one they take ten times as long.
  /** @type {Map<string, Path2D>} */
  const paths = new Map();
  for (const i of dots) {
    const [x, y] = at(i);
    if (x < -size || y < -size || x > w + size || y > h + size) continue;
    const own = color(i), path = paths.get(own) ?? new Path2D();
    paths.set(own, path);
    path.moveTo(x + size / 2, y);
    path.arc(x, y, size / 2, 0, 2 * Math.PI);
  }
  for (const [own, path] of paths) { brush.fillStyle = own; brush.fill(path); }
};
/** #rrggbb as a picture has it, without what it covers.
 * @type {(color: string) => number} */
const tintOf = color => parseInt(color.slice(5, 7) + color.slice(3, 5) + color.slice(1, 3), 16);
/** Many dots: point by point into a picture, which takes milliseconds where as many shapes take seconds.
 * @type {(dots: number[], at: At, size: number, ratio: number, color: (i: number) => string) => void} */
const paint = (dots, at, size, ratio, color) => {
  if (!brush) return;
  const {width, height} = canvas, picture = brush.createImageData(width, height), points = new Uint32Array(picture.data.buffer);
  // A dot's own points, and how much of each it covers: little at its edge.
  const reach = Math.ceil(size / 2), dx = [], dy = [], covers = [];
  for (let y = -reach; y <= reach; y++) for (let x = -reach; x <= reach; x++) {
    const share = Math.min(1, size / 2 + .5 - Math.hypot(x, y));
    if (share > 0) { dx.push(x); dy.push(y); covers.push(Math.round(255 * share)); }
  }
  /** @type {Map<string, number>} */
  const tints = new Map();
  for (const i of dots) {
    const place = at(i), x = Math.round(place[0] * ratio), y = Math.round(place[1] * ratio), own = color(i);
    if (x < 0 || y < 0 || x >= width || y >= height) continue;
    const tint = tints.get(own) ?? tintOf(own);
    tints.set(own, tint);
    for (let k = 0; k < dx.length; k++) {
      const px = x + dx[k], py = y + dy[k], p = py * width + px;
      if (px < 0 || py < 0 || px >= width || py >= height || points[p] >>> 24 > covers[k]) continue;
      points[p] = covers[k] << 24 | tint;
    }
  }
  brush.putImageData(picture, 0, 0);
};

/** Draw them where they belong.
 * @type {(scale: Scale, room: Room, size: number, color: (i: number) => string) => void} */
export const drawMarks = (scale, room, size, color) => {
  const {dots, rings, star, line} = marked, {ax, bx, ay, by} = scale, {l, t, w, h} = room, ratio = devicePixelRatio;
  last = {scale, room, size, color};
  box.hidden = !dots.length && !rings.length;
  if (box.hidden || !brush) return;
  Object.assign(box.style, {left: `${l}px`, top: `${t}px`, width: `${w}px`, height: `${h}px`});
  Object.assign(canvas.style, {width: `${w}px`, height: `${h}px`, transform: "none"});
  const [wide, high] = [Math.ceil(w * ratio), Math.ceil(h * ratio)];
  if (canvas.width !== wide || canvas.height !== high) { canvas.width = wide; canvas.height = high; }
  brush.setTransform(ratio, 0, 0, ratio, 0, 0);
  brush.clearRect(0, 0, w, h);
  /** @type {At} */
  const at = i => [ax * xs[i] + bx - l, ay * ys[i] + by - t];
  if (dots.length > FEW) paint(dots, at, size * ratio, ratio, color);
  else fill(dots, at, size, w, h, color);
  brush.strokeStyle = ink();
  brush.beginPath();
  if (star) for (const i of rings) { brush.moveTo(...at(rings[0])); brush.lineTo(...at(i)); }
  for (const i of line) brush.lineTo(...at(i));
  brush.globalAlpha = star ? .28 : .6;
  brush.lineWidth = star ? 1 : 1.5;
  brush.setLineDash(star ? [] : [3, 3]);
  brush.stroke();
  brush.globalAlpha = 1;
  brush.setLineDash([]);
  rings.forEach((i, k) => {
    const foremost = star && k === 0;
    brush.beginPath();
    brush.arc(...at(i), Math.max(size, 7) * (foremost ? 1.7 : 1.15) / 2, 0, 2 * Math.PI);
    brush.fillStyle = color(i);
    brush.fill();
    brush.lineWidth = foremost ? 2 : 1.2;
    brush.stroke();
  });
};

/** Follow the map while that moves.
 * @type {(scale: Scale) => void} */
export const moveMarks = scale => {
  if (!last || box.hidden) return;
  const {room, size, color, scale: from} = last;
  if (scale.ax === from.ax && scale.bx === from.bx && scale.ay === from.ay && scale.by === from.by) return;
  if (marked.dots.length + marked.rings.length <= FEW) { drawMarks(scale, room, size, color); return; }
  const across = scale.ax / from.ax, down = scale.ay / from.ay;
  canvas.style.transform = `matrix(${across}, 0, 0, ${down}, ${scale.bx - room.l - across * (from.bx - room.l)}, ${scale.by - room.t - down * (from.by - room.t)})`;
};
