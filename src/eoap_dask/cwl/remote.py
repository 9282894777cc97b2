"""CWL files and jobs on other machines, fetched as cwltool fetches them."""

from __future__ import annotations

from urllib.parse import urlsplit

from eoap_dask.errors import UsageError
from eoap_dask.redact import redact

_PROBLEM_LENGTH = 200


def is_elsewhere(reference: str) -> bool:
    """Tell whether a path or URL leads to another machine."""
    return urlsplit(reference).scheme in {"http", "https"}


def fetch(url: str, kind: str, *, cached: bool = True) -> str:
    """Return the text of a file at an http(s) URL, else raise `UsageError`; `cached` allows cwltool's cache on disk."""
    from cwltool.load_tool import default_loader
    from schema_salad.exceptions import ValidationException

    try:
        return str(default_loader(doc_cache=cached).fetch_text(url))
    except ValidationException as exc:
        problem = redact(exc.__cause__ or exc).rstrip(".")[:_PROBLEM_LENGTH]
        raise UsageError(f"The {kind} {redact(url)} can't be fetched: {problem}.", "", "Check its URL.") from exc
