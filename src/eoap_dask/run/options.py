"""How a product is made: the options that all applications share. They never change a pixel."""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from eoap_dask.cluster.options import ClusterOptions
from eoap_dask.errors import UsageError
from eoap_dask.params import Declared, check_choices, param
from eoap_dask.readers.limits import MOST_READS
from eoap_dask.text import must_be, option
from eoap_dask.values import as_path

if TYPE_CHECKING:
    from eoap_dask.net.retry import Retry


_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+):(?:/+|$)", re.I)
"""How a URL begins, also one that a `Path` has put right; a drive of Windows has one letter."""


def as_output_dir(value: object, name: str) -> Path:
    """Return a directory of this machine, or raise `UsageError`: a URL would become a directory of that name."""
    path = as_path(value, name, "output")
    if found := _SCHEME.match(str(path)):
        url = f"{found[1]}://{str(path)[found.end() :]}"
        why = "Products aren't written to URLs: make it here, and copy it."
        raise must_be(name, "a directory of this machine", url, "output", why)
    return path


@dataclass(frozen=True)
class OutputOptions(Declared):
    """Where a product goes."""

    HEADING: ClassVar = "Output"

    output_dir: Path = param(
        Path("output"),
        "Directory to be made, or an earlier output of the same application and parameters, to be brought up to date.",
        metavar="DIR",
        local_file=True,
        accepts=as_output_dir,
    )


@dataclass(frozen=True)
class RunOptions(ClusterOptions, OutputOptions):  # fields of the last parent come first
    """How a product is made. Nothing here changes a pixel."""

    HEADING: ClassVar = "Run"

    performance_report: Path | None = param(
        None, "Write Dask's performance report to this HTML file.", metavar="FILE", local_file=True
    )
    max_failures: int = param(
        0, "How many units (months, cells) may fail before the whole run counts as failed.", metavar="N"
    )
    max_bad_scenes: int = param(
        0, "How many scenes that stay bad after all retries a unit may do without; it says so in its item.", metavar="N"
    )
    retries: int = param(2, "How often an asset that can't be read is tried again.", metavar="N")
    retry_deadline: float = param(
        300.0, "How long an asset is tried, however often, before it counts as bad.", metavar="SECONDS"
    )
    reader: str = param(
        "auto",
        "What reads the files: auto reads plain TIFFs itself and everything else with GDAL; gdal reads all with GDAL.",
        choices=("auto", "gdal"),
    )
    reads: int | None = param(
        None,
        "Files that each worker reads at once: more hide a slower network, and take more memory. [default: 8, up to 24 "
        "where blocks are small]",
        metavar="N",
    )
    allow_hosts: tuple[str, ...] = param(
        (),
        "Private host, by name or address, from which assets may be read though the catalogue is elsewhere. Repeat for "
        "more.",
        metavar="HOST",
        multiple=True,
        flag="allow-host",
    )
    sink: str = param(
        "auto",
        "Who puts encoded tiles onto the output's disk: workers, which must see it under the same path, or the client, "
        "to whom they travel; auto means workers on the cluster that a run starts on this machine.",
        choices=("auto", "client", "workers"),
    )
    resume: bool = param(
        True,
        "Go on with what an interrupted or earlier run finished, or make the whole output anew: units that aren't "
        "asked for go.",
        negative="no-resume",
        heading="Output",
    )
    overwrite: bool = param(
        False,
        "Make the units that are asked for with these parameters where the output has others. Refused where units of "
        "other parameters would stay.",
        negative="no-overwrite",
        heading="Output",
    )
    update: bool = param(
        False,
        "Add the units that are asked for to an output of the same parameters, whatever the dates: those that are "
        "there stay.",
        negative="no-update",
        heading="Output",
    )
    retry_failed: bool = False
    """Make only the units that failed in the last run; `UsageError` where there is none."""
    block: int | None = None
    """Side of a block in pixels, 512·2^k. By default 2048, less for few blocks or little memory."""
    budget: int | None = None
    """Bytes of the layers that a task holds at once. By default from the workers' memory, at most 1024 MiB."""

    def replace(self, **changes: Any) -> RunOptions:
        """Return a copy with some options changed."""
        return dataclasses.replace(self, **changes)

    def retry(self) -> Retry:
        """Return how often and how long readers try an asset."""
        from eoap_dask.net.retry import Retry

        return Retry(attempts=self.retries + 1, deadline_s=self.retry_deadline)

    def check(self) -> None:
        """Raise `UsageError` for values that make no sense."""
        check_choices(self)
        super().check()
        if self.retry_failed and not self.resume:
            raise UsageError(
                f"{option('resume', False)} can't be combined with a retry of what failed.",
                "The one makes the whole output anew, the other keeps what is finished.",
                "Leave one of them out.",
            )
        for name in ("overwrite", "update"):
            if getattr(self, name) and not self.resume:
                raise UsageError(
                    f"{option(name, True)} can't be combined with {option('resume', False)}.",
                    "The one keeps units that are there, the other makes the whole output anew.",
                    "Leave one of them out.",
                )
        for name in ("max_failures", "max_bad_scenes", "retries"):
            if getattr(self, name) < 0:
                raise must_be(name, "0 or more", getattr(self, name), 0)
        from eoap_dask.net.hrefs import check_host_names

        check_host_names(self.allow_hosts)
        if self.performance_report is not None and self.performance_report.is_dir():
            raise UsageError(
                f"{option('performance_report')} {self.performance_report} is a directory.",
                "Expected an HTML file.",
                f"Try {option('performance_report', str(self.performance_report / 'report.html'))}.",
            )
        if self.reads is not None and not 1 <= self.reads <= MOST_READS:
            raise must_be("reads", f"1 to {MOST_READS}", self.reads, 8)
        if not 0 < self.retry_deadline < math.inf:
            raise must_be("retry_deadline", "more than 0 seconds and finite", self.retry_deadline, 300)
        if self.block is not None and (self.block < 512 or self.block & (self.block - 1)):
            raise must_be("block", "512 pixels, or 512 times a power of two", self.block, 2048)
