"""Where an output may go: what stands there already, and whose it is."""

from __future__ import annotations

import os
import re
from pathlib import Path

from eoap_dask.__about__ import __version__
from eoap_dask.errors import OutputError
from eoap_dask.publish.exchange import standing_at
from eoap_dask.publish.holdings import (
    MARKER,
    SOFTWARE,
    beside,
    check_product,
    names_in,
    occupied,
    partial_owner,
    resolve,
)

_MARKER_DRAFT = re.compile(rf"\.{re.escape(MARKER)}\.\d+\.tmp")
"""What `write_bytes` leaves of a marker when it is killed."""


def identity(application: str) -> dict[str, str]:
    """Return the keys by which a directory is recognised as ours; `run.json` begins with them.

    Parameters
    ----------
    application
        The application's name, such as ``cloudless-mosaic``.

    Returns
    -------
    dict
        ``software``, ``application`` and ``version``.
    """
    return {"software": SOFTWARE, "application": application, "version": __version__}


def check_output(out: Path, application: str, *, update: bool = False) -> None:
    """Pass when `out` can become the output of an application; writes nothing and takes no lock.

    Parameters
    ----------
    out
        The output directory, as the user gave it.
    application
        The application's name.
    update
        A product of the same application may be there, to be replaced by its next generation.

    Raises
    ------
    OutputError
        When `out` exists and may not be updated, its parent can't hold it, or ``<out>.partial`` isn't ours to
        replace. Not updated is what another application or nobody of ours made, what isn't whole (a ``run.json``,
        catalog or ledger that is no JSON), and what holds files of somebody else, which an update would lose.
    """
    place = resolve(out)
    check_place(place, out, application if update else None)
    check_partial(beside(place, ".partial"), application)


def check_place(place: Path, given: Path, updater: str | None) -> None:
    """Raise unless `place` is free, or a product of `updater`, and its parent, or the nearest that exists, writable."""
    choose = "Choose another --output-dir."
    if place == place.parent:
        raise OutputError(f"{given} can't be an output.", "The root directory exists.", choose)
    product = standing_at(place)
    if product is not None and updater is None:
        raise occupied(product, given)
    if product is not None and updater is not None:
        check_product(product, updater, given)
    try:
        while True:
            parent = next(parent for parent in place.parents if os.path.lexists(parent))
            is_directory = parent.is_dir()
            if is_directory and os.access(parent, os.W_OK | os.X_OK):
                return
            if os.path.lexists(parent):
                break
            # a run that ended just now took it along, having made it: the next one up is the nearest now
    except OSError as error:
        raise unwritable(given, error) from error
    fault = "isn't writable" if is_directory else "isn't a directory"
    raise OutputError(f"{given} can't be created.", f"{parent} {fault}.", choose)


def check_partial(partial: Path, application: str) -> None:
    """Raise unless `partial` is absent, or an unfinished output of this application."""
    if not os.path.lexists(partial):
        return
    expected = "A run writes into a directory of this name until its output is complete."
    remedy = "Choose another --output-dir, or move it away."
    if partial.is_symlink() or not partial.is_dir():
        kind = "is a symbolic link" if partial.is_symlink() else "exists and isn't a directory"
        raise OutputError(f"{partial} {kind}.", expected, remedy)
    found = partial_owner(partial)
    if found is None:
        # Killed between creating it and writing the marker: an empty directory is no loss to anybody, a draft neither.
        if any(not _MARKER_DRAFT.fullmatch(name) for name in names_in(partial)):
            raise OutputError(f"{partial} exists and wasn't made by {SOFTWARE}.", expected, remedy)
    elif found.get("application") != application:
        raise OutputError(
            f"{partial} holds an unfinished run of {found.get('application')}.",
            f"This is {application}, which won't remove it.",
            "Choose another --output-dir, or remove it.",
        )


def unwritable(given: Path, error: OSError) -> OutputError:
    """Return what to say when a disk refuses to hold an output."""
    reason = error.strerror or str(error)
    where = f" ({error.filename})" if error.filename else ""
    return OutputError(
        f"{given} can't be written: {reason}{where}.",
        "The output, and what is beside it while a run works, must be on a disk that can be written.",
        "Choose another --output-dir.",
    )
