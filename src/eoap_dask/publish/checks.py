"""Checks of the place for an output: is something there already, and whose."""

from __future__ import annotations

import os
import re
from pathlib import Path

from eoap_dask.__about__ import __version__
from eoap_dask.errors import OutputError
from eoap_dask.publish.exchange import location_of
from eoap_dask.publish.holdings import (
    MARKER,
    SOFTWARE,
    another_place,
    check_product,
    names_in,
    occupied,
    partial_owner,
    resolve,
    sibling,
)

_MARKER_DRAFT = re.compile(rf"\.{re.escape(MARKER)}\.\d+\.tmp")
"""Left by a `write_bytes` of a marker that was killed."""


def identity(application: str) -> dict[str, str]:
    """Return the keys that mark a directory as ours; `run.json` begins with them."""
    return {"software": SOFTWARE, "application": application, "version": __version__}


def check_output(out: Path, application: str, *, update: bool = False) -> None:
    """Pass when `out` can become the output of an application; writes nothing and takes no lock.

    With `update` it may be a whole product of the same application without files of others, which an update would
    delete.
    """
    place = resolve(out)
    check_place(place, out, application if update else None)
    check_partial(sibling(place, ".partial"), application)


def check_place(place: Path, given: Path, updater: str | None) -> None:
    """Raise unless `place` is free, or a product of `updater`, and its nearest existing parent is writable."""
    choose = another_place()
    if place == place.parent:
        raise OutputError(f"{given} can't be an output.", "The root directory exists.", choose)
    product = location_of(place)
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
            # a run that just ended removed the parent, which it had made: look for the nearest one again
    except OSError as error:
        raise unwritable(given, error) from error
    fault = "isn't writable" if is_directory else "isn't a directory"
    raise OutputError(f"{given} can't be created.", f"{parent} {fault}.", choose)


def check_partial(partial: Path, application: str) -> None:
    """Raise unless `partial` is absent, or an unfinished output of this application."""
    if not os.path.lexists(partial):
        return
    expected = "A run writes into a directory of this name until its output is complete."
    remedy = another_place("or move it away")
    if partial.is_symlink() or not partial.is_dir():
        kind = "is a symbolic link" if partial.is_symlink() else "exists and isn't a directory"
        raise OutputError(f"{partial} {kind}.", expected, remedy)
    found = partial_owner(partial)
    if found is None:
        # killed between creating it and writing the marker: it is empty, or has a draft of the marker
        if any(not _MARKER_DRAFT.fullmatch(name) for name in names_in(partial)):
            raise OutputError(f"{partial} exists and wasn't made by {SOFTWARE}.", expected, remedy)
    elif found.get("application") != application:
        raise OutputError(
            f"{partial} holds an unfinished run of {found.get('application')}.",
            f"This is {application}, which won't remove it.",
            another_place("or remove it"),
        )


def unwritable(given: Path, error: OSError) -> OutputError:
    """Return the error for an output that can't be written to disk."""
    reason = error.strerror or str(error)
    where = f" ({error.filename})" if error.filename else ""
    return OutputError(
        f"{given} can't be written: {reason}{where}.",
        "The output, and the files beside it during a run, need a writable disk.",
        another_place(),
    )
