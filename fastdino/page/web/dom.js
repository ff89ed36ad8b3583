// Elements and words. Belongs here: making elements, and putting numbers and times into words. Does
// not: anything about songs.
// Text from tags and file names only ever reaches the page through textContent.

/** @type {(id: string) => any} */
export const $ = id => document.getElementById(id);
/** @type {(tag: string, text?: string, className?: string) => HTMLElement} */
export const make = (tag, text, className) => {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (className) element.className = className;
  return element;
};
/** @type {(name: string) => SVGElement} */
export const icon = name => {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#icon-${name}`);
  svg.setAttribute("aria-hidden", "true");
  svg.append(use);
  return svg;
};
/**
 * @param {string} text what stands on it; none for one that has only an icon
 * @param {string} label what it is called where that is more than its text, which it begins with
 * @param {(event: MouseEvent) => void} onClick
 * @param {string} [className]
 * @param {string} [symbol]
 */
export const button = (text, label, onClick, className, symbol) => {
  const element = /** @type {HTMLButtonElement} */ (make("button", undefined, className));
  if (symbol) element.append(icon(symbol));
  if (text) element.append(make("span", text));
  if (label) element.setAttribute("aria-label", label);
  if (label && !text) element.title = label;
  element.onclick = onClick;
  return element;
};

/** @type {(number: number) => string} */
export const count = number => number.toLocaleString("en");
/** @type {(number: number, what: string) => string} */
export const counted = (number, what) => `${count(number)} ${what}${number === 1 ? "" : "s"}`;
/** @type {(seconds: number | null) => string} */
export const clock = seconds => {
  if (seconds === null || !Number.isFinite(seconds)) return "–:––";
  const s = Math.max(0, Math.floor(seconds)), h = Math.floor(s / 3600);
  const m = Math.floor(s / 60) % 60;
  /** @type {(value: number) => string} */
  const pad = value => String(value).padStart(2, "0");
  return h ? `${h}:${pad(m)}:${pad(s % 60)}` : `${m}:${pad(s % 60)}`;
};
/** How long it takes to hear something: minutes and seconds, or hours.
 * @type {(seconds: number) => string} */
export const lasting = seconds => seconds < 7200 ? clock(seconds) : `${count(Math.round(seconds / 3600))} hours`;
/** @type {(text: string) => string} */
export const day = text => text && new Date(`${text}T00:00Z`).toLocaleDateString(
  "en-GB", {day: "numeric", month: "long", year: "numeric", timeZone: "UTC"});
/** What was chosen, kept where the browser lets a page keep something.
 * @type {(storage: "localStorage" | "sessionStorage", name: string, value?: string) => string | null} */
export const kept = (storage, name, value) => {
  try {
    if (value !== undefined) window[storage].setItem(name, value);
    return window[storage].getItem(name);
  } catch { return null; }
};
/** Say something that is only heard by those who do not see the page.
 * @type {(text: string) => void} */
export const say = text => { $("spoken").textContent = text; };
