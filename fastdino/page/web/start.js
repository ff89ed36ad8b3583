// Setting out: the headline, light and dark, the keyboard.

$("title").textContent = `${counted(data.counts.songs, "song")}, laid out by sound`;
$("facts").textContent = data.facts;

// ---- light and dark: as the system has it, until someone chooses
const remember = (...value) => {
  try { return value.length ? localStorage.setItem("theme", value[0]) : localStorage.getItem("theme"); } catch { return null; }
};
const dress = theme => { if (theme) document.documentElement.dataset.theme = theme; };
dress(remember());
$("theme").onclick = () => {
  const theme = dark() ? "light" : "dark";
  dress(theme);
  remember(theme);
  show();
};
prefersDark.addEventListener("change", () => show());

// ---- keyboard
const walk = by => {
  const choices = [...box.querySelectorAll(".what")];
  const at = choices.indexOf(document.activeElement);
  const to = choices[at < 0 ? (by > 0 ? 0 : -1) : at + by];
  if (to) to.focus(); else if (by < 0) $("query").focus();
};
const keys = {
  "/": () => $("query").select(),
  " ": toggle,
  ArrowDown: () => walk(1),
  ArrowUp: () => walk(-1),
  ArrowLeft: () => skip(-5),
  ArrowRight: () => skip(5),
  n: () => step(1),
  p: () => step(-1),
  m: () => $("moments").click(),
  "+": () => zoom(1.5),
  "=": () => zoom(1.5),
  "-": () => zoom(1 / 1.5),
  0: showAll,
};
addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  const at = event.target, typing = at === $("query");
  if (event.key === "Escape") {
    if (typing) at.blur();
    back();
  } else if (typing) {
    if (event.key === "ArrowDown") walk(1);
    else if (event.key === "Enter") {
      const best = search(at.value)[0];
      if (best === undefined) return;
      at.blur();
      open(best);
    } else return;
  } else {
    // A button that the keyboard has reached is pressed by the space bar, as everywhere.
    if (event.key === " " && at.matches("button:focus-visible")) return;
    if (at === $("volume") && event.key.startsWith("Arrow")) return;
    const act = keys[event.key] || keys[event.key.toLowerCase()];
    if (!act) return;
    act();
  }
  event.preventDefault();
});

$("zoom-in").onclick = () => zoom(1.5);
$("zoom-out").onclick = () => zoom(1 / 1.5);
$("zoom-all").onclick = showAll;
startPlayer(askMoments);
startPanel();
startMap(open);
if (n) addEventListener("resize", refit);
document.documentElement.dataset.ready = String(n);
