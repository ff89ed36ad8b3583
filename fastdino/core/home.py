"""Where everything the pipeline makes lies, in one place.

Belongs here: folder and file names under ``FASTDINO_HOME``. Does not: reading or writing them.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from fastdino.core import environment
from fastdino.core.errors import UserError


def expanded(name: str) -> Path:
    """The path that a person means by ``name``, which may begin with ``~``.

    Raises:
        UserError: there is no such user.
    """
    try:
        return Path(name).expanduser()
    except RuntimeError:
        user = name.partition("/")[0].removeprefix("~")
        raise UserError(f"{name}: there is no user {user} here; write the whole path") from None


@dataclass(frozen=True)
class Home:
    """The folder that holds all the pipeline's output; the music folders are only ever read."""

    root: Path

    def __post_init__(self) -> None:
        try:
            str(self.root).encode()
        except UnicodeEncodeError:
            # Neither Parquet files nor DuckDB can be opened there.
            raise UserError(
                f"{self.root} is not valid UTF-8: choose another folder with --home or "
                "FASTDINO_HOME"
            ) from None
        # DuckDB takes the first for the beginning of parameters and the second for a slash, also
        # where a link leads to such a folder.
        real = os.path.realpath(self.root)
        if found := next((character for character in "?\\" if character in real), None):
            raise UserError(
                f"no database can be written in {real}, whose name has a {found} in it: choose "
                "another folder with --home or FASTDINO_HOME"
            )

    @classmethod
    def from_environment(cls) -> "Home":
        """``$FASTDINO_HOME``, or ``var`` in the current folder."""
        return cls(environment.HOME.value().absolute())

    @property
    def catalog(self) -> Path:
        """Parquet: one row per file of the collection, see ``fastdino.ingestion.catalog``."""
        return self.root / "catalog" / "files.parquet"

    @property
    def aliases(self) -> Path:
        """Parquet: ids of recordings from older versions, see ``fastdino.ingestion.aliases``."""
        return self.root / "catalog" / "aliases.parquet"

    @property
    def departed(self) -> Path:
        """Parquet: one row per song that ever left, see ``fastdino.ingestion.departed``."""
        return self.root / "catalog" / "departed.parquet"

    @property
    def skipped(self) -> Path:
        """Parquet: one row per file or folder left out, see ``fastdino.ingestion.skipped``."""
        return self.root / "catalog" / "skipped.parquet"

    @property
    def so_far(self) -> Path:
        """Folder of what an ingest at work has found, see ``fastdino.ingestion.so_far``."""
        return self.root / "catalog" / "so_far"

    def shards(self, spec_id: str) -> Path:
        """Folder of spectrogram shards made with the settings that ``spec_id`` stands for."""
        return self.root / "shards" / spec_id

    @property
    def models(self) -> Path:
        """Folder of trained models, one sub-folder each, and ``current.json``."""
        return self.root / "models"

    def model(self, model_id: str) -> Path:
        """Folder of one model."""
        return self.models / model_id

    def vectors(self, model_id: str) -> Path:
        """Folder of one model's vectors: one Parquet file per spectrogram shard."""
        return self.root / "vectors" / model_id

    def maps(self, model_id: str) -> Path:
        """Folder of the maps, clusters and neighbours drawn from one model's vectors."""
        return self.root / "maps" / model_id

    @property
    def database(self) -> Path:
        """The published DuckDB file. Replaced whole, never written in place."""
        return self.root / "music.duckdb"

    @property
    def standby(self) -> Path:
        """The DuckDB file of before, to be the next one, see ``fastdino.database.standby``."""
        return self.scratch / "standby" / "music.duckdb"

    @property
    def page(self) -> Path:
        """The report page."""
        return self.root / "reports" / "index.html"

    @property
    def token(self) -> Path:
        """What lets other devices see the page, see ``fastdino.page.invitation``; a secret."""
        return self.root / "serve" / "token"

    @property
    def server_ids(self) -> Path:
        """Parquet: a music server's songs and which are ours, see ``fastdino.servers.matching``."""
        return self.root / "servers" / "ids.parquet"

    @property
    def comparison(self) -> Path:
        """Folder of what ``fastdino compare`` trained and found."""
        return self.root / "comparison"

    @property
    def bench(self) -> Path:
        """Folder of what ``fastdino bench gpu`` measured."""
        return self.root / "bench"

    @property
    def outcomes(self) -> Path:
        """Folder of what each step did last, see ``fastdino.core.outcomes``."""
        return self.root / "outcomes"

    @property
    def scratch(self) -> Path:
        """Files in the making that no one else reads; safe to delete while nothing runs."""
        return self.root / "scratch"
