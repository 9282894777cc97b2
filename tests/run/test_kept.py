"""What a run that was stopped has left is said, with how to go on."""

from __future__ import annotations

from pathlib import Path

import pytest

from eoap_dask.run.status import kept_by_stop
from eoap_dask.text import named_by_flags


@pytest.mark.parametrize(
    ("finished", "is_update", "resume", "says"),
    [
        (0, False, True, "No unit was finished, and nothing is kept: the same command begins anew."),
        (0, True, True, "{0} is as it was. No unit was finished, and nothing is kept: the same command begins anew."),
        (1, False, True, "1 finished unit is kept in {0}.partial. Run the same command again to go on."),
        (
            2,
            True,
            True,
            "{0} is as it was. 2 finished units are kept in {0}.partial. Run the same command again to go on.",
        ),
        (
            2,
            False,
            False,
            "2 finished units are kept in {0}.partial. Run the same command without --no-resume to go on.",
        ),
    ],
)
def test_what_is_kept(finished: int, is_update: bool, resume: bool, says: str, tmp_path: Path) -> None:
    output = tmp_path / "mosaic"
    for number in range(finished):
        folder = tmp_path / "mosaic.partial" / f"unit-{number}"
        folder.mkdir(parents=True)
        (folder / f"unit-{number}.json").touch()
    if finished:
        (tmp_path / "mosaic.partial" / "half").mkdir()  # without its item
        (tmp_path / "mosaic.partial" / "run.log").touch()
    if is_update:
        output.mkdir()
    with named_by_flags():
        assert kept_by_stop(output, resume=resume) == says.format(output)
