"""Where many tasks run: in this process, in several, or on a cluster."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager, nullcontext, suppress
from importlib import import_module
from typing import Any

from mnistviz.errors import MnistvizError, choose

ENGINES = ("here", "processes", "dask")
ATTEMPTS = 4  # of an engine whose workers die


def at_once(engine: str, workers: int | None) -> int:
    """How many tasks an engine does at the same time; of a cluster elsewhere, as many as here are assumed."""
    return 1 if engine == "here" else workers or os.cpu_count() or 1


def spread(
    function: Callable[[Any], Any], tasks: list[Any], engine: str = "here", workers: int | None = None,
    address: str | None = None,
) -> Iterator[Any]:  # fmt: skip
    """`spread(take, tasks, "processes", workers=2)`: the function's answers, in order, by whichever engine.

    Where a worker dies, all tasks are given out again: a task that was done must cost nothing.
    """
    choose("engine", engine, dict.fromkeys(ENGINES))
    if engine == "here":
        yield from map(function, tasks)
        return
    from joblib import Parallel, delayed, parallel_config

    count = at_once(engine, workers)
    backend: dict[str, Any] = {"backend": "dask"} if engine == "dask" else {"backend": "loky", "n_jobs": count}
    with _cluster(address, count) if engine == "dask" else nullcontext():
        for _ in range(ATTEMPTS):
            with suppress(BrokenExecutor), parallel_config(**backend):
                yield from Parallel(batch_size=1, pre_dispatch="all", return_as="generator")(
                    map(delayed(function), tasks)
                )
                return
    fix = "give them more memory, or take fewer (--workers); what was done is kept"
    raise MnistvizError(f"worker processes died {ATTEMPTS} times, as if killed", given=engine, fix=fix)


@contextmanager
def _cluster(address: str | None, workers: int) -> Iterator[None]:
    """A Dask cluster: the one at this address, or processes of this machine for as long as it lasts."""
    try:
        from dask.distributed import Client
    except ImportError as error:
        fix = 'pip install "mnistviz[study]"'
        raise MnistvizError("the engine 'dask' needs dask and distributed", fix=fix) from error
    local = {"n_workers": workers, "threads_per_worker": 1, "dashboard_address": None}
    try:
        client = Client(address, timeout="10s") if address else Client(**local)
    except (OSError, ValueError) as error:
        fix = "start one (dask scheduler, then dask worker on each machine), or leave the address out"
        raise MnistvizError("no Dask scheduler answers", given=address, fix=fix) from error
    with client:
        try:
            client.run(import_module, __name__)
        except ImportError as error:
            fix = "install the same mnistviz and torch on every machine of the cluster"
            raise MnistvizError(f"a Dask worker cannot import mnistviz: {error}", given=address, fix=fix) from error
        yield
