"""What a stage did, in one shape for the terminal and for Dagster.

Belongs here: the value every stage returns. Does not: how it is shown.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

Scalar = str | int | float | bool | None


@dataclass(frozen=True)
class Column:
    """A column of a relation: its name, its type as its maker calls it, and what it means."""

    name: str
    type: str
    means: str


@dataclass(frozen=True)
class Relation:
    """A table or a view that a stage leaves behind.

    Attributes:
        name: the whole of it, such as "music.main.songs".
        means: what a row is.
        rows: how many there are.
        columns: in their order.
    """

    name: str
    means: str
    rows: int
    columns: Sequence[Column]


@dataclass(frozen=True)
class Summary:
    """The outcome of one run of one stage.

    Attributes:
        stage: the stage's name, as on the command line.
        headline: one sentence for people, such as "3 new songs, 1 moved, 96 unchanged".
        did_work: false if everything was up to date and nothing was written.
        counts: named figures.
        tables: named tables, each a list of rows with the same keys.
        plots: named PNG images.
        paths: named files or folders that the stage leaves behind.
        warnings: sentences that a person should read, each with what to do.
        relations: tables and views to ask; the first is what most people ask.
    """

    stage: str
    headline: str
    did_work: bool
    counts: Mapping[str, Scalar] = field(default_factory=dict)
    tables: Mapping[str, Sequence[Mapping[str, Scalar]]] = field(default_factory=dict)
    plots: Mapping[str, bytes] = field(default_factory=dict)
    paths: Mapping[str, Path] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    relations: Sequence[Relation] = ()
