"""What the tests of searches share."""

from __future__ import annotations

import pytest

from eoap_dask.net import http


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Pauses between attempts are noted, not made."""
    pauses: list[float] = []
    monkeypatch.setattr(http, "_sleep", pauses.append)
    return pauses
