// The Collection tab: growth, how well it hears, what went wrong. Belongs here: charts and their words.
// Does not: other lists.
import {count, counted, day, make} from "./dom.js";
import {data, files} from "./collection.js";
import {grey} from "./theme.js";
import {heading} from "./rows.js";
import {state} from "./state.js";

/** @type {(label: string, trace: object[], layout: {xaxis?: object, yaxis?: object}) => HTMLElement} */
const chart = (label, trace, layout) => {
  const element = make("div", undefined, "chart"), soft = state.dark ? "#a3a9b5" : "#5c6270";
  element.setAttribute("role", "img");
  element.setAttribute("aria-label", label);
  const axes = {gridcolor: state.dark ? "rgba(255,255,255,.09)" : "rgba(29,33,41,.08)", zeroline: false, fixedrange: true, tickfont: {size: 11}};
  setTimeout(() => element.isConnected && Plotly.newPlot(element, trace, {
    height: 170, margin: {l: 40, r: 10, t: 8, b: 28}, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: {color: soft, family: "inherit"}, showlegend: false, ...layout,
    xaxis: {...axes, showgrid: false, ...layout.xaxis}, yaxis: {...axes, rangemode: "tozero", ...layout.yaxis},
  }, {displayModeBar: false, responsive: true}));
  return element;
};
/** @type {(value: number) => string} */
const percent = value => `${Math.round(100 * value)}\u00a0%`;
/** @type {() => HTMLElement[]} */
const growth = () => {
  const last = data.growth.at(-1), dates = data.growth.map(([date]) => date), parts = [heading("Growth")];
  let total = 0;
  const grown = data.growth.map(([, songs]) => total += songs);
  if (!last) return parts;
  const came = dates.length > 1 ? ` since ${day(dates[0])}, the last ${count(last[1])} on ${day(last[0])}` : `, added on ${day(last[0])}`;
  parts.push(make("p", `${counted(total, "song")}${came}.`, "facts"));
  if (dates.length > 1) parts.push(chart("Number of songs over time", [{
    x: dates, y: grown, mode: "lines", line: {color: data.palette[4], width: 2, shape: "hv"}, fill: "tozeroy", hovertemplate: "%{y:,} songs<extra>%{x}</extra>",
  }], {}));
  return parts;
};
/** @type {() => HTMLElement[]} */
const quality = () => {
  const parts = [heading("How well it hears")], judged = data.models.filter(model => model[4] !== null);
  const current = data.models.find(model => model[2]);
  if (!current) return parts;
  const own = current[4], plain = current[5];
  if (own !== null) {
    parts.push(make("p", `Of ten songs, ${Math.round(10 * own)} have a song by the same artist as the one most like them. Nobody told it who plays: it went by the sound.`, "facts"));
    if (plain !== null && own > plain) {
      parts.push(make("p", `Comparing how loud each pitch is on average, without any learning, finds ${percent(plain)} where it finds ${percent(own)}.`, "facts"));
    } else if (plain !== null) {
      parts.push(make("p", `Comparing how loud each pitch is on average, without any learning, finds ${percent(plain)} where it finds ${percent(own)}. `
        + "Songs of one album often find each other because of how it was mixed, which averages hear as well, and a small collection or a short training teaches little: "
        + "with fewer than a few hundred songs expect the broad strokes, and with more, or more minutes of training, look here again.", "facts"));
    }
  }
  if (judged.length > 1) parts.push(chart("Share of songs whose nearest song is by the same artist, model after model", [{
    x: judged.map((_, k) => k), y: judged.map(model => model[5]), mode: "lines", line: {color: grey(), dash: "dot"}, hovertemplate: "without learning %{y:.0%}<extra></extra>",
  }, {
    x: judged.map((_, k) => k), y: judged.map(model => model[4]), text: judged.map(model => model[0]), mode: "lines+markers",
    line: {color: data.palette[4], width: 2}, marker: {size: judged.map(model => model[2] ? 11 : 7)}, hovertemplate: "%{y:.0%}<extra>%{text}</extra>",
  }], {
    yaxis: {tickformat: ".0%"},
    xaxis: {tickvals: judged.map((_, k) => k), ticktext: judged.map(model => day(model[1])?.replace(/ \d+$/, "")), range: [-.5, judged.length - .5]},
  }));
  parts.push(make("p", `Model ${current[0]}, trained on ${counted(current[3] ?? 0, "song")} of yours on ${day(current[1])}.`, "facts"));
  return parts;
};
/** @type {() => HTMLElement[]} */
const failures = () => {
  const known = files().failures, list = make("ul", undefined, "failures");
  if (!known.length) return [];
  for (const [where, stage, reason] of known) {
    const row = make("li");
    row.append(make("div", where), make("div", `${stage}: ${reason}`, "soft"));
    list.append(row);
  }
  const parts = [heading(`Something is wrong with ${counted(data.counts.failures, "file")}`), list];
  if (known.length < data.counts.failures) {
    parts.push(make("p", `The first ${count(known.length)} are shown; all are in the table failures of music.duckdb.`, "facts"));
  }
  return parts;
};
export const collection = () => [...growth(), ...quality(), ...failures()];
