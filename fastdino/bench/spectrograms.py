"""How fast a file becomes frames, and in how much memory.

Belongs here: measuring one worker's work beside the straightforward way to do it. Does not: the
work itself.
"""

import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from fastdino.bench.table import Row, core_seconds
from fastdino.spectrograms.settings import SpectrogramSettings

RATE = 44_100
LENGTHS_S = (120, 200, 300)
LONG_S = 3 * 3600
REPEATS = 5

_PEAK = """
import sys
from pathlib import Path
from fastdino.bench.table import peak_memory_mb
from fastdino.spectrograms.extract import Task, in_worker
from fastdino.spectrograms.settings import SpectrogramSettings
print(in_worker(Task(Path(sys.argv[1]), Path(sys.argv[2]), SpectrogramSettings())).decoded_s)
print(peak_memory_mb())
"""


def rows() -> Iterator[Row]:
    """Measure; takes about a minute, most of it encoding what is then decoded."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory(prefix="fastdino-bench-") as name:
            yield from _speed(Path(name))
            yield from _memory(Path(name))
    finally:
        torch.set_num_threads(threads)


def music(path: Path, seconds: int) -> None:
    """Encode ``seconds`` of chords over a beat as stereo MP3 at 256 kbit/s."""
    import av

    rng = np.random.default_rng(0)
    t = np.arange(RATE) / RATE
    with av.open(str(path), "w", format="mp3", options={"write_xing": "0"}) as container:
        stream = container.add_stream("libmp3lame", rate=RATE, layout="stereo")
        stream.bit_rate = 256_000
        for _ in range(seconds):
            notes = 110 * 2 ** (rng.integers(0, 36, (6, 1)) / 12)
            partials = [np.sin(2 * np.pi * notes * k * t) / k for k in range(1, 6)]
            chord = np.sum(partials, axis=(0, 1))
            beat = rng.standard_normal((2, RATE)) * np.exp(-16 * (4 * t % 1))
            second = (0.03 * chord + 0.1 * beat).astype(np.float32)
            frame = av.AudioFrame.from_ndarray(second, format="fltp", layout="stereo")
            frame.sample_rate = RATE
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _speed(folder: Path) -> Iterator[Row]:
    files = []
    for seconds in LENGTHS_S:
        files.append(folder / f"{seconds}.mp3")
        music(files[-1], seconds)
    program = shutil.which("ffmpeg")
    plain = _with_program if program else _with_library
    ours, theirs = [], []
    for _ in range(REPEATS):  # taken in turns, so that both meet the same disturbances
        ours.append(sum(LENGTHS_S) / _cpu_seconds(_ours, files))
        theirs.append(sum(LENGTHS_S) / _cpu_seconds(plain, files))
    how = "ffmpeg program" if program else "FFmpeg's libraries (no ffmpeg program here)"
    yield Row(
        "MP3 to frames, one core",
        statistics.median(ours),
        "x real time",
        f"{how}, one STFT a file",
        statistics.median(theirs),
        ">= 350, ratio >= 1.7",
    )


def _memory(folder: Path) -> Iterator[Row]:
    short, long = folder / f"{LENGTHS_S[-1]}.mp3", folder / "long.mp3"
    # MP3 frames stand on their own: the same five minutes again and again are a long MP3.
    with long.open("wb") as file:
        for _ in range(LONG_S // LENGTHS_S[-1]):
            file.write(short.read_bytes())
    yield Row(
        f"peak memory of a worker, {LONG_S / 3600:.0f}-hour MP3",
        _peak_mb(long, LONG_S),
        "MB",
        "the same for 5 minutes",
        _peak_mb(short, LENGTHS_S[-1]),
        "< 1000, ratio 1",
    )


def _cpu_seconds(way: Callable[[Path], object], files: list[Path]) -> float:
    start = core_seconds()
    for file in files:
        way(file)
    return core_seconds() - start


def _ours(file: Path) -> object:
    from fastdino.spectrograms.extract import Task, extract

    return extract(Task(file, file.with_suffix(".frames"), SpectrogramSettings()))


def _with_program(file: Path) -> object:
    command = ["ffmpeg", "-v", "error", "-threads", "1", "-i", str(file)]
    command += ["-ar", str(SpectrogramSettings().sample_rate), "-ac", "1", "-f", "f32le", "-"]
    decoded = subprocess.run(command, capture_output=True, check=True, stdin=subprocess.DEVNULL)
    return _log_mel(np.frombuffer(decoded.stdout, np.float32))


def _with_library(file: Path) -> object:
    import av

    converter = av.AudioResampler("fltp", "mono", SpectrogramSettings().sample_rate)
    with av.open(str(file)) as container:
        frames = [
            part.to_ndarray()[0]
            for frame in container.decode(audio=0)
            for part in converter.resample(frame)
        ]
    return _log_mel(np.concatenate(frames))


def _log_mel(samples: np.ndarray) -> object:
    import torch
    import torchaudio

    settings = SpectrogramSettings()
    spectrum = torch.stft(
        torch.from_numpy(samples.copy()),
        settings.n_fft,
        settings.hop,
        window=torch.hann_window(settings.n_fft),
        return_complex=True,
    )
    bands = torchaudio.functional.melscale_fbanks(
        settings.n_fft // 2 + 1,
        0.0,
        settings.sample_rate / 2,
        settings.n_mels,
        settings.sample_rate,
        mel_scale="slaney",
    )
    return (bands.T @ spectrum.abs().square()).clamp_min(1e-10).log10()


def _peak_mb(file: Path, seconds: int) -> float:
    command = [sys.executable, "-c", _PEAK, str(file), str(file.with_suffix(".frames"))]
    output = subprocess.run(command, capture_output=True, check=True, text=True).stdout.split()
    assert abs(float(output[0]) - seconds) < 5, f"decoded {output[0]} s of {seconds}"
    return float(output[1])
