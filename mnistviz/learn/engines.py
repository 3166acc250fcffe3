"""Where many tasks run: in this process, in several, or on a cluster."""

import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager, nullcontext, suppress
from importlib import import_module
from typing import Any

from mnistviz.errors import MnistvizError, choose, refuse

ENGINES = ("here", "processes", "dask")
ATTEMPTS = 4  # of what makes workers die; Dask has this number too
TIMEOUT = 10  # seconds for a scheduler, and then for its first worker


def at_once(engine: str, workers: int | None) -> int:
    """How many tasks an engine does at the same time; of a cluster elsewhere, as many as here are assumed."""
    choose("engine", engine, dict.fromkeys(ENGINES))
    refuse(workers is not None and workers < 1, "no such number of workers", given=workers, allowed="1 or more")
    return 1 if engine == "here" else workers or os.cpu_count() or 1


def spread(
    function: Callable[[Any], Any], tasks: list[Any], engine: str = "here", workers: int | None = None,
    address: str | None = None,
) -> Iterator[Any]:  # fmt: skip
    """`spread(take, tasks, "processes", workers=2)`: the function's answers, as they come, by whichever engine.

    Where a worker dies, all tasks are given out again: a task that was done must cost nothing.
    """
    count = at_once(engine, workers)
    refuse(address and engine != "dask", "an address is for the engine 'dask'", given=f"{address} for {engine}")
    if engine == "here":
        yield from map(function, tasks)
        return
    from joblib import Parallel, delayed

    cluster = _cluster(address, count, function.__module__) if engine == "dask" else nullcontext("loky")
    with cluster as backend:
        settings = {"backend": backend, "batch_size": 1, "pre_dispatch": "all", "return_as": "generator_unordered"}
        for _ in range(1 if engine == "dask" else ATTEMPTS):
            with suppress(BrokenExecutor):
                yield from Parallel(count, **settings)(map(delayed(function), tasks))
                return
    fix = "give them more memory, or take fewer (--workers); what was done is kept"
    raise MnistvizError(f"worker processes died {ATTEMPTS} times, as if killed", given=engine, fix=fix)


@contextmanager
def _cluster(address: str | None, workers: int, module: str) -> Iterator[Any]:
    """Joblib's backend of a Dask cluster: the one at this address, or of this machine for as long as it lasts."""
    try:
        from dask.distributed import CancelledError, Client, KilledWorker
        from distributed.comm import connect
        from distributed.utils import LoopRunner
        from joblib._dask import DaskDistributedBackend
    except ImportError as error:
        raise MnistvizError("the engine 'dask' needs more packages", fix='pip install "mnistviz[study]"') from error

    class Backend(DaskDistributedBackend):  # type: ignore[misc]
        """Joblib's own waits for ever for a task that Dask has given up, and works here if there is but one worker."""

        def effective_n_jobs(self, n_jobs: int) -> int:
            return max(2, super().effective_n_jobs(n_jobs))

        def submit(self, func: Any, callback: Any = None) -> Any:
            future = super().submit(func, callback)
            future.add_done_callback(lambda done: callback(done.exception()) if done.exception() else None)
            return future

        def retrieve_result_callback(self, out: Any) -> Any:
            if isinstance(out, BaseException):
                raise BrokenExecutor(out) if isinstance(out, KilledWorker) else out
            return super().retrieve_result_callback(out)

    local: dict[str, Any] = {"n_workers": workers, "threads_per_worker": 1, "memory_limit": None}
    local |= {"dashboard_address": None, "silence_logs": logging.CRITICAL}
    try:
        if address:  # a client would wait for ever for one that takes the call and says nothing
            LoopRunner().run_sync(connect, address, callback_timeout=TIMEOUT).abort()
        with Client(address, timeout=TIMEOUT) if address else Client(**local) as client:
            client.wait_for_workers(1, timeout=TIMEOUT)
            for told in client.run(import_module, module, on_error="return").values():
                if isinstance(told, Exception):  # a broken torch raises anything
                    raise ImportError(told)
            yield Backend(client=client)
    except ImportError as error:
        fix = "install the same mnistviz and torch on every machine of the cluster"
        raise MnistvizError(f"a Dask worker cannot import {module}: {error}", given=address, fix=fix) from error
    except (OSError, ValueError, CancelledError) as error:
        if isinstance(error, MnistvizError):  # of a task
            raise
        fix = "start one (dask scheduler, then dask worker on each machine), or leave the address out; results stay"
        raise MnistvizError("no Dask scheduler with a worker answers", given=address, fix=fix) from error
