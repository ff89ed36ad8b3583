"""Playlists: the collection for players and music servers.

Belongs here: the asset ``playlists`` and its options. Does not: the playlists themselves
(``fastdino.database``).
"""

from pathlib import Path

import dagster as dg

from assets.database import music_duckdb
from assets.stage import (
    DUCKDB_POOL,
    HomeFolder,
    Pipes,
    config_of,
    nothing_done,
    run_steps,
    stage_asset,
)
from fastdino.core import environment
from fastdino.steps import Playlists, made


class PlaylistsConfig(config_of(Playlists)):  # type: ignore[misc]
    """Options of the playlists."""


@stage_asset(
    Playlists,
    deps=[music_duckdb],
    kinds={"duckdb", "file"},
    pool=DUCKDB_POOL,
)
def playlists(
    context: dg.AssetExecutionContext,
    config: PlaylistsConfig,
    home: HomeFolder,
    pipes: Pipes,
) -> dg.MaterializeResult:
    """A playlist of each cluster, of what is new this week, and a surprise a day, as M3U8 files.

    Off unless a folder is named. Of what lies there only files of its own are replaced or removed,
    and none that would be as it is.

    - Lies in: the folder that `FASTDINO_PLAYLISTS` names
    - Look at it: with any player; docs/playlists.md tells how Navidrome, Jellyfin and MPD find it
    - Without Dagster: `.venv/bin/fastdino playlists FOLDER`
    """
    if not config.folder:
        message = f"off: to have playlists, set {environment.PLAYLISTS.name} to a folder for them"
        return nothing_done(message)
    options = config.model_dump(mode="json")
    options["folder"] = str(Path(config.folder).expanduser().absolute())
    return run_steps(context, pipes, home, made(Playlists.name, options))
