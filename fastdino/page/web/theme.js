// Light and dark, and colours that can be seen on either. Belongs here: which theme there is, and
// how much a colour stands out. Does not: the colours of groups, which come with the collection.
import {change, state} from "./state.js";
import {kept} from "./dom.js";

const prefersDark = matchMedia("(prefers-color-scheme: dark)");
const PAPER = {light: "#f7f6f2", dark: "#111318"};   // as in style.css
/** By WCAG: what a dot, and what text must have over the paper. */
export const DOT = 3.05;
export const TEXT = 4.55;

/** @type {(hex: string) => number[]} */
const channels = hex => [1, 3, 5].map(at => parseInt(hex.slice(at, at + 2), 16));
/** @type {(rgb: number[]) => number} */
const luminance = rgb => {
  const [r, g, b] = rgb.map(value => value / 255).map(c => c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4);
  return .2126 * r + .7152 * g + .0722 * b;
};
/** @type {(one: string, other: string) => number} */
export const contrast = (one, other) => {
  const [a, b] = [one, other].map(hex => luminance(channels(hex))).sort((a, b) => b - a);
  return (a + .05) / (b + .05);
};
export const paper = () => PAPER[state.dark ? "dark" : "light"];
export const ink = () => state.dark ? "#f2f3f6" : "#1d2129";
export const grey = () => state.dark ? "#6c7280" : "#848893";
/** @type {Map<string, string>} */
const known = new Map();
/** A colour, darker in the light and lighter in the dark where it would not be seen.
 * @type {(hex: string, atLeast: number) => string} */
export const seen = (hex, atLeast) => {
  const key = `${hex} ${atLeast} ${state.dark}`;
  let found = known.get(key);
  if (found) return found;
  const from = channels(hex), end = state.dark ? 255 : 0;
  for (let share = 0; share <= 1; share += .02) {
    found = `#${from.map(c => Math.round(c + (end - c) * share).toString(16).padStart(2, "0")).join("")}`;
    if (contrast(found, paper()) >= atLeast) break;
  }
  known.set(key, found || hex);
  return found || hex;
};

const dress = () => {
  const chosen = document.documentElement.dataset.theme;
  change({dark: chosen ? chosen === "dark" : prefersDark.matches});
};
export const switchTheme = () => {
  const theme = state.dark ? "light" : "dark";
  document.documentElement.dataset.theme = theme;
  kept("localStorage", "theme", theme);
  dress();
};
export const startTheme = () => {
  const theme = kept("localStorage", "theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  prefersDark.addEventListener("change", dress);
  dress();
};
