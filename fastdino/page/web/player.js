// The player: a queue of songs, the one that is playing, and moments like the one that is heard.

const audio = $("audio"), seek = $("seek");
const UNHEARD = "No sound: a page opened from disk may not load your music. Run “make report”, or “fastdino serve”, to hear it.";
// What is played: {song, from}, from being the second to start at.
const player = {queue: [], at: -1, name: ""};
const playing = () => player.at < 0 ? null : player.queue[player.at].song;
let startAt = 0, dragging = false;

const note = text => { $("note").textContent = text; $("note").hidden = !text; };
const icon = name => {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#icon-${name}`);
  svg.setAttribute("aria-hidden", "true");
  svg.append(use);
  return svg;
};

// Play a list from its k-th song on; what is listed goes on playing.
const play = (list, k = 0, name = "") => {
  Object.assign(player, {queue: list.map(entry => typeof entry === "number" ? {song: entry, from: 0} : entry), at: k, name});
  load();
};
const load = () => {
  const {song, from} = player.queue[player.at];
  startAt = from;
  for (const id of ["previous", "next"]) $(id).disabled = false;
  $("now").disabled = false;
  $("now").setAttribute("aria-label", `${spoken(song)}: show it`);
  $("now").replaceChildren(make("b", songs.title[song]), make("span", [artist(song), album(song)].filter(Boolean).join(" · ")));
  $("spoken").textContent = `Now ${served ? "playing" : "showing"} ${spoken(song)}`;
  $("length").textContent = clock(songs.seconds[song]);
  $("moments").disabled = false;
  seek.max = songs.seconds[song] || 1;
  aim(from);
  stretch(null);
  if (served) {
    for (const id of ["play", "seek"]) $(id).disabled = false;
    note("");
    audio.src = `/audio/${songs.id[song]}`;
    // Refused where no one has clicked anything yet: the button then starts it.
    audio.play().catch(() => {});
    announce(song);
  } else {
    note(UNHEARD);
  }
  mark("playing", song);
  onPlaying();
};
const step = by => {
  const to = player.at + by;
  if (by < 0 && audio.currentTime > 4) { audio.currentTime = 0; return; }
  if (to < 0 || to >= player.queue.length) return;
  player.at = to;
  load();
};
const toggle = () => {
  if (!served || player.at < 0) return;
  // What has failed does not play again by itself, though the server or the disk is back.
  if (audio.error) load();
  else if (audio.paused) audio.play().catch(() => {}); else audio.pause();
};
const skip = seconds => { if (served && player.at >= 0) audio.currentTime = Math.max(0, audio.currentTime + seconds); };

// The tab, media keys, and the lock screen of a phone.
const announce = song => {
  document.title = spoken(song);
  if (!navigator.mediaSession) return;
  navigator.mediaSession.metadata = new MediaMetadata({
    title: songs.title[song], artist: artist(song) || "", album: album(song) || "",
  });
};

const aim = seconds => {
  seek.value = seconds;
  seek.style.setProperty("--done", `${100 * seconds / (+seek.max || 1)}%`);
  seek.setAttribute("aria-valuetext", `${clock(seconds)} of ${clock(+seek.max)}`);
  $("elapsed").textContent = clock(seconds);
};
// Show on the bar which stretch of the song was asked about.
const stretch = span => {
  seek.style.setProperty("--from", span ? `${100 * span[0] / +seek.max}%` : "0%");
  seek.style.setProperty("--to", span ? `${100 * span[1] / +seek.max}%` : "0%");
};

const startPlayer = onMoment => {
  audio.addEventListener("loadedmetadata", () => {
    if (Number.isFinite(audio.duration)) {
      seek.max = audio.duration;
      $("length").textContent = clock(audio.duration);
    }
    if (startAt) audio.currentTime = startAt;
    startAt = 0;
  });
  audio.addEventListener("timeupdate", () => { if (!dragging) aim(audio.currentTime); });
  audio.addEventListener("ended", () => step(1));
  for (const event of ["play", "pause"]) audio.addEventListener(event, () => {
    $("play").setAttribute("aria-label", audio.paused ? "Play" : "Pause");
    $("play").replaceChildren(icon(audio.paused ? "play" : "pause"));
    document.documentElement.dataset.sound = audio.paused ? "off" : "on";
  });
  audio.addEventListener("error", async () => {
    const song = playing();
    if (song === null) return;
    if (!audio.src.endsWith(".wav")) {   // A format that this browser does not know: let it be decoded.
      startAt ||= audio.currentTime;   // Damage may be found in the middle of a song.
      audio.src = `/audio/${songs.id[song]}.wav`;
      audio.play().catch(() => {});
      return;
    }
    const answer = await fetch(audio.src, {headers: {Range: "bytes=0-0"}}).catch(() => null);
    if (song !== playing()) return;
    if (!answer) note("The server is gone: start “fastdino serve” again.");
    else note(answer.ok ? "This file cannot be played." : await answer.text());
  });
  $("play").onclick = toggle;
  $("next").onclick = () => step(1);
  $("previous").onclick = () => step(-1);
  seek.addEventListener("input", () => { dragging = true; aim(+seek.value); });
  // No change comes where the handle is let go of at the value that it was taken from.
  for (const event of ["pointerup", "pointercancel", "blur"]) seek.addEventListener(event, () => { dragging = false; });
  seek.addEventListener("change", () => {
    dragging = false;
    audio.currentTime = +seek.value;
    onMoment(+seek.value);
  });
  $("moments").onclick = () => onMoment(audio.currentTime);
  $("volume").oninput = () => { audio.volume = +$("volume").value; };
  if (navigator.mediaSession) {
    navigator.mediaSession.setActionHandler("nexttrack", () => step(1));
    navigator.mediaSession.setActionHandler("previoustrack", () => step(-1));
  }
  if (!served) { note(UNHEARD); $("loudness").hidden = true; }
};

// Where else it sounds like a second of a song: {from_s, to_s, moments} or {error}.
const momentsLike = async (song, at) => {
  if (!served) return {error: "Finding moments needs the server: run “make report”, or “fastdino serve”."};
  try {
    const answer = await fetch(`/similar-moments?song=${songs.id[song]}&at=${at.toFixed(1)}`);
    if (!answer.ok) return {error: await answer.text()};
    const found = await answer.json();
    found.moments = found.moments.filter(moment => rowOf.has(moment.song));
    return found;
  } catch {
    return {error: "The server is gone: start “fastdino serve” again."};
  }
};
