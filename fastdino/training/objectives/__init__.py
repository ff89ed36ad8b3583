"""What is optimised. One module an objective.

Belongs here: the list of objectives. Does not: the encoder they train or the loop around them,
which are the same for all.

A new objective is a module with one subclass of ``base.Objective`` and a line here.
"""

from fastdino.training.objectives.autoencoder import Autoencoder
from fastdino.training.objectives.base import Objective
from fastdino.training.objectives.dino import DINO
from fastdino.training.objectives.fastdino import FastDINO
from fastdino.training.objectives.published import Published

OBJECTIVES: dict[str, type[Objective]] = {
    "fastdino": FastDINO,
    "published": Published,
    "dino": DINO,
    "autoencoder": Autoencoder,
}
