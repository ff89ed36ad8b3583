# FastDINO pipelines: the page, Dagster and the nightly refresh, see docs/container.md.
ARG DEBIAN=trixie
FROM debian:${DEBIAN}-slim

# Where PyTorch comes from. Empty: from PyPI, whose build for x86 computes on NVIDIA's GPUs and takes
# 5 GB; with the address of an index of PyTorch's for CPUs: 1 GB.
ARG TORCH_INDEX=
# Whose the results are: the number of the user who starts it lets them read them outside.
ARG USER_ID=1000

RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates python3 python3-venv tzdata \
    && rm -rf /var/lib/apt/lists/*
RUN useradd --uid ${USER_ID} --create-home fastdino

WORKDIR /app
ENV PATH=/app/.venv/bin:/usr/local/bin:/usr/bin:/bin
ENV PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python3 -m venv .venv

# By far the most of it, and the part that changes least.
COPY constraints.txt ./
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install -c constraints.txt ${TORCH_INDEX:+--index-url} ${TORCH_INDEX} torch torchaudio

COPY pyproject.toml README.md LICENSE dagster.yaml workspace.yaml ./
COPY fastdino/ fastdino/
COPY assets/ assets/
COPY pipelines/ pipelines/
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install -c constraints.txt -e . && python -m compileall -q fastdino assets pipelines

# All that is written; a volume takes its place.
RUN mkdir var && chown fastdino: var
ENV DAGSTER_HOME=/app
ENV FASTDINO_MUSIC=/music
ENV PYTHONUNBUFFERED=1
USER fastdino
CMD ["fastdino", "--help"]
