"""Lines of a run go to its own log, whichever thread says them, and nobody else's do."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from pathlib import Path
from threading import Barrier, Thread

import pytest
from loguru import logger

from eoap_dask.logs import carried, log_to, of_run


@pytest.fixture(autouse=True)
def enabled() -> Iterator[None]:
    """Let this module's lines be heard, as those of the package are when a program enables them."""
    logger.enable("eoap_dask")
    yield
    logger.disable("eoap_dask")


def messages(path: Path) -> list[str]:
    return [line.split(": ", 1)[1] for line in path.read_text().splitlines()]


def test_two_runs_at_once(tmp_path: Path) -> None:
    """Each with a pool, whose threads inherit nothing, and a thread that serves both."""
    both = Barrier(3)

    def run(name: str) -> None:
        with of_run(name), log_to(tmp_path / name, name), ThreadPoolExecutor(1) as pool:
            both.wait(10)
            for number in range(3):
                logger.info("{} {}", name, number)
                pool.submit(carried(logger.debug), "{} pool {}", name, number).result()
            pool.submit(logger.info, "{} not carried", name).result()
            both.wait(10)

    def serve() -> None:
        both.wait(10)
        logger.info("of no run")
        both.wait(10)

    threads = [Thread(target=run, args=("one",)), Thread(target=run, args=("two",)), Thread(target=serve)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name in ("one", "two"):
        expected = [f"{name} {kind}{number}" for number in range(3) for kind in ("", "pool ")]
        assert messages(tmp_path / name) == expected


def test_the_log_of_a_run_is_over_with_it(tmp_path: Path) -> None:
    with of_run("one"):
        with log_to(tmp_path / "log", "one"):
            logger.info("during")
        logger.info("after")
    assert messages(tmp_path / "log") == ["during"]


def test_a_log_has_no_secrets_though_nobody_has_set_up_logging(tmp_path: Path) -> None:
    with of_run("one"), log_to(tmp_path / "log", "one"):
        logger.info("{}", "https://user:c2VjcmV0@host/a.tif?sig=c2VjcmV0")
        try:
            raise ValueError("https://host/b.tif?sig=c2VjcmV0")
        except ValueError as fault:
            logger.opt(exception=fault).debug("It failed")
    text = (tmp_path / "log").read_text()
    assert "https://host/a.tif" in text
    assert "ValueError: https://host/b.tif" in text
    assert "c2VjcmV0" not in text


def test_what_is_carried_can_run_in_several_threads_at_once() -> None:
    variable: ContextVar[str] = ContextVar("variable", default="nothing")
    both = Barrier(2)

    def look() -> str:
        both.wait(10)
        found = variable.get()
        variable.set("of a thread")
        return found

    token = variable.set("of the run")
    bound = carried(look)
    variable.reset(token)
    with ThreadPoolExecutor(2) as pool:
        assert [future.result() for future in [pool.submit(bound), pool.submit(bound)]] == ["of the run"] * 2
    assert variable.get() == "nothing"
