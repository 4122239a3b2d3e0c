"""Tasks on a Ray cluster; the files of the run and its sources are on a disk that all nodes have.

Ray distributes tasks and notices nodes that are gone. On each node a task is done as it is on one
machine, in a process that can be killed (``workers.py``), so a document that hangs or crashes a
parser is found and left out in the same way, and the result is the same to the byte.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from everlong.curation.workers import Done, Incident, Job, LocalExecutor, WorkerLimits
from everlong.errors import EverlongError, MissingExtraError

_TRIES = 3
"""Times that a task is given to a node."""


class RayExecutor:
    """Processes of the cluster that ``RAY_ADDRESS`` names, or of one that is started here.

    Args:
        count: of processes; None: one for each core of the cluster.
        limits: of each.

    Raises:
        MissingExtraError: ray is not installed.
    """

    def __init__(self, count: int | None, limits: WorkerLimits) -> None:
        try:
            import ray
        except ImportError:
            raise MissingExtraError("ray", "ray") from None
        self._ray, self._count, self._limits = ray, count, limits

    def map(self, job: Job, tasks: Sequence[int]) -> Iterator[Done | Incident]:
        """See :class:`everlong.curation.workers.Executor`; processes that were lost are told when
        their task is done."""
        if not tasks:
            return
        ray = self._ray
        started = not ray.is_initialized()
        if started:
            ray.init(
                address=os.environ.get("RAY_ADDRESS"),
                num_cpus=None if "RAY_ADDRESS" in os.environ else self._count,
                include_dashboard=False,
                log_to_driver=False,
                runtime_env={"env_vars": {"PYTHONPATH": str(Path(__file__).parents[2])}},
            )
        try:
            yield from self._map(job, tasks)
        finally:
            if started:
                ray.shutdown()

    def _map(self, job: Job, tasks: Sequence[int]) -> Iterator[Done | Incident]:
        ray = self._ray
        count = self._count or max(1, int(ray.cluster_resources().get("CPU", 1)))
        node = ray.remote(num_cpus=1, max_restarts=0)(_Node)
        shared = ray.put(job)
        waiting, tries = list(reversed(tasks)), dict.fromkeys(tasks, 0)
        running: dict[Any, tuple[Any, int]] = {}

        def begin(actor: Any) -> None:
            task = waiting.pop()
            tries[task] += 1
            running[actor.do.remote(shared, task)] = actor, task

        while waiting or running:
            while waiting and len(running) < min(count, len(tasks)):
                begin(node.remote(self._limits))
            (ready,), _ = ray.wait(list(running), num_returns=1)
            actor, task = running.pop(ready)
            try:
                news = ray.get(ready)
            except ray.exceptions.RayActorError as error:  # its node or process is gone
                if tries[task] >= _TRIES:
                    raise EverlongError(
                        f"task {task} was given to {_TRIES} nodes, and each was lost ({error}); "
                        "what is done is kept; look at the cluster, and go on with --resume"
                    ) from None
                waiting.append(task)
                continue
            except ray.exceptions.RayTaskError as error:
                raise error.cause from None
            if waiting:
                begin(actor)
            else:
                ray.kill(actor)
            yield from news


class _Node:
    """What does tasks on a node."""

    def __init__(self, limits: WorkerLimits) -> None:
        self._executor = LocalExecutor(1, limits)

    def do(self, job: Job, task: int) -> list[Done | Incident]:
        return [*self._executor.map(job, [task])]
