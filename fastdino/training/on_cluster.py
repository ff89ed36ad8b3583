"""Training on a Ray cluster: as many ranks as are asked for, wherever there is room for them.

Belongs here: what is asked of the cluster for each rank, and bringing back what rank 0 says. Does
not: what ranks are to one another (``ranks``), or training (``stage``), which is the same anywhere.
"""

import contextlib
import logging
import queue
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from logging.handlers import QueueHandler
from typing import Any

import torch.distributed as dist

from fastdino import __version__
from fastdino.core import environment, storage
from fastdino.core.cluster import connect, room_for
from fastdino.core.errors import UserError, readable_errors
from fastdino.core.home import Home
from fastdino.core.summary import Summary
from fastdino.training import ranks, stage
from fastdino.training.settings import TrainingSettings

log = logging.getLogger(__name__)

# So often ranks are started anew, from the checkpoint, when one was lost.
MOST_LOST = 3


def run(
    home: Home,
    settings: Callable[[], TrainingSettings],
    n_ranks: int,
    *,
    afresh: bool = False,
    warm: bool = False,
) -> Summary:
    """Train as ``stage.run`` does, on the cluster that ``RAY_ADDRESS`` names.

    Rank 0's log is this process's, and the ranks end with it.

    Args:
        home: on storage that all computers of the cluster see under this path, unless its shards
            and models are in a store.
        settings: gives the recipe, there: it may depend on the device.
        n_ranks: how many processes; each has a GPU of its own where the cluster has any.
        afresh: see ``stage.run``.
        warm: see ``stage.run``.

    Raises:
        UserError: what ``stage.run`` raises, there is no such cluster, or it has not the room.
    """
    if dist.is_torchelastic_launched():
        raise UserError("torchrun has started the ranks already: leave --ranks away")
    if environment.CLUSTER.value() is None:
        raise UserError(
            f"--ranks {n_ranks} asks for a Ray cluster: set RAY_ADDRESS to its address; or, for "
            f"this computer alone, run 'torchrun --nproc-per-node {n_ranks} -m fastdino train'"
        )
    ray = connect()
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer
    from ray.util.queue import Queue

    asked = resources(ray.nodes(), n_ranks)
    backend = ranks.ON_GPUS if "GPU" in asked else ranks.ON_CPUS
    log.info("Asking the cluster for %d ranks, each with %s", n_ranks, _listed(asked))
    said, outcome = Queue(actor_options={"num_cpus": 0}), Future[Summary | UserError]()

    one_rank: Any = partial(_one_rank, home, settings, said, __version__, afresh=afresh, warm=warm)
    with tempfile.TemporaryDirectory(prefix="fastdino-") as unused:
        trainer = TorchTrainer(
            one_rank,
            torch_config=TorchConfig(backend, timeout_s=int(ranks.PATIENCE.total_seconds())),
            scaling_config=ScalingConfig(
                num_workers=n_ranks, use_gpu="GPU" in asked, resources_per_worker=asked
            ),
            run_config=RunConfig(
                storage_path=unused, failure_config=FailureConfig(max_failures=MOST_LOST)
            ),
        )

        def fit() -> None:
            try:
                ended: Any = trainer.fit()
                outcome.set_result(ended.return_value)
            except BaseException as error:
                outcome.set_exception(error)

        # Not in the main thread, where Ray would make an interrupt something that ends well.
        threading.Thread(target=fit, daemon=True).start()
        _repeat(said, outcome.done)
    result = outcome.result()
    if isinstance(result, UserError):
        raise result
    return result


def resources(nodes: Sequence[Mapping[str, Any]], n_ranks: int) -> dict[str, float]:
    """What each rank is to have: a GPU if there are any, and as many cores as all can have.

    Args:
        nodes: as Ray lists them.
        n_ranks: how many.

    Raises:
        UserError: there is not enough for so many.
    """
    gpus = int(any(node["Resources"].get("GPU") for node in nodes if node["Alive"]))
    if (room := room_for(nodes, 1, gpus)) < n_ranks:
        what = "with a GPU" if gpus else "with a core"
        raise UserError(
            f"the cluster has room for {room} ranks, each {what} of its own: give --ranks "
            f"{max(1, room)} at most, or add computers to it"
        )
    cores = 1
    while room_for(nodes, cores + 1, gpus) >= n_ranks:
        cores += 1
    return {"CPU": cores, "GPU": 1} if gpus else {"CPU": cores}


def _listed(asked: Mapping[str, float]) -> str:
    return " and ".join(f"{number:g} {what}" for what, number in asked.items())


def _one_rank(
    home: Home,
    settings: Callable[[], TrainingSettings],
    said: Any,
    version: str,
    **options: bool,
) -> Summary | UserError | None:
    """What runs on the cluster; rank 0 says to ``said``, a queue of Ray's, what it logs."""
    storage.mount(home.root)
    seen = storage.in_store(home.models) or home.root.is_dir()
    if not ranks.least(seen and version == __version__):
        return UserError(
            f"a computer of the cluster does not see {home.root}, or has not fastdino {version}: "
            "put the home on storage that all see under the same path, and install the same on all"
        )
    if ranks.rank() == 0:
        ours = logging.getLogger("fastdino")
        ours.setLevel(logging.INFO)
        ours.addHandler(QueueHandler(said))
    try:
        with readable_errors(home.root):
            return stage.run(home, settings(), **options)
    except UserError as error:
        if ranks.rank():
            raise
        # Not raised: it would be tried again.
        return error


def _repeat(said: Any, ended: Callable[[], bool]) -> None:
    """Log here what is logged there, until it has ended and all is said."""
    last = False
    while not last:
        last = ended()
        with contextlib.suppress(queue.Empty):
            while True:
                record = said.get(timeout=0.0 if last else 0.5)
                logging.getLogger(record.name).handle(record)
