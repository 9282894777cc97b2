"""Job files: the values of a workflow's inputs."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from eoap_dask.cwl.document import entries, id_of, inputs_of, read_yaml, short
from eoap_dask.errors import UsageError
from eoap_dask.net.resolve import is_file_url, is_url
from eoap_dask.text import show

_NAME = re.compile(r"\w[\w.-]*")
_IS_INPUT = re.compile(r"\$\(inputs\.([\w-]+)\)")


def check_job(path: Path, process: Mapping[str, Any], name: str, processes: Iterable[Mapping[str, Any]] = ()) -> None:
    """Refuse a job file with unknown or missing inputs, or with names that results can't have.

    Runners ignore unknown inputs, so that a misspelt one would silently have its default.
    """
    check_inputs(read_yaml(path, "job file"), path, process, name, processes, folder=path.parent)


def check_inputs(
    job: Any,
    path: Path,
    process: Mapping[str, Any],
    name: str,
    processes: Iterable[Mapping[str, Any]] = (),
    folder: Path | None = None,
) -> None:
    """Refuse the inputs of a job as `check_job` those of a file; `path` and `name` are for messages.

    Files are looked for in `folder`; without one, as for a job from elsewhere, they are left to the runner.
    """
    if job is None:
        job = {}
    if not isinstance(job, Mapping):
        raise UsageError(
            f"The job file {path} holds no inputs.", "Expected lines such as resolution: 100.", "See docs/cwl.md."
        )
    known = inputs_of(process)
    given = {key for key in map(str, job) if not _is_about(key)}
    unknown = sorted(given - known.keys())
    if unknown:
        close = difflib.get_close_matches(unknown[0].replace("_", "-"), known, n=1)
        raise UsageError(
            f"The job file {path} gives {_listed(unknown)}, which {name} doesn't take.",
            f"Expected {', '.join(known)}.",
            f"Did you mean {close[0]}?" if close else "",
        )
    missing = sorted(key for key, is_needed in known.items() if is_needed and job.get(key) is None)
    if missing:
        raise UsageError(f"The job file {path} lacks {_listed(missing)}, which {name} needs.")
    for key, about in entries(process.get("inputs"), "id", "type"):
        given_as_text, kind = job.get(short(key)), str(about.get("type"))
        if isinstance(given_as_text, str) and kind.removesuffix("?").endswith("[]"):
            raise UsageError(
                f"The job file {path} gives {short(key)} as text, {given_as_text!r}.",
                "Expected a list, also of one.",
                f"Try {short(key)}: [{given_as_text}].",
            )
    who = f"The job file {path}"
    for key, about in entries(process.get("inputs"), "id", "type"):
        if (value := job.get(short(key))) is not None:
            check_value(short(key), about.get("type"), value, who)
            if folder is not None and isinstance(value, Mapping) and value.get("class") == "File":
                check_file(short(key), value, folder, who)
    _check_lengths(job, process, who)
    for key in names_of_results(process, processes):
        if isinstance(job.get(key), list):
            check_names(key, job[key], who)


def check_value(key: str, kind: Any, value: Any, who: str) -> None:
    """Refuse a value that isn't of an input's type, as far as types are simple; `who` gave it."""
    kinds = [one for one in (kind if isinstance(kind, list) else [kind]) if one != "null"]
    if kinds and not any(_fits(value, one) for one in kinds):
        raise UsageError(f"{who} gives {key} as {show(value)}.", f"Expected {' or '.join(map(_words, kinds))}.")


def check_file(key: str, value: Mapping[str, Any], folder: Path, who: str) -> None:
    """Refuse a File that isn't there, before anything is started for it; those from elsewhere aren't looked for."""
    place = value.get("path", value.get("location"))
    if not isinstance(place, str) or (is_url(place) and not is_file_url(place)) or place.startswith("_:"):
        return
    found = Path(unquote(urlsplit(place).path)) if is_file_url(place) else folder / place
    if not found.is_file():
        what = "a directory" if found.is_dir() else "not there"
        raise UsageError(f"{who} gives {place!r} as {key}, which is {what}.", "Expected a file.", "Check its path.")


def _check_lengths(job: Mapping[str, Any], process: Mapping[str, Any], who: str) -> None:
    """Refuse lists of different lengths where a step takes one of each at a time."""
    for _, step in entries(process.get("steps"), "id"):
        scatter = step.get("scatter")
        if step.get("scatterMethod") != "dotproduct" or not isinstance(scatter, list):
            continue
        wiring = dict(entries(step.get("in"), "id", "source"))
        sources = [short(str(wiring.get(short(str(one)), {}).get("source"))) for one in scatter]
        lengths = {one: len(job[one]) for one in sources if isinstance(job.get(one), list)}
        if len(set(lengths.values())) > 1:
            told = " and ".join(f"{count} {key}" for key, count in lengths.items())
            raise UsageError(f"{who} gives {told}.", "Expected as many of each.", "The first belongs to the first.")


_SCALARS: dict[str, tuple[tuple[type, ...], str]] = {
    "string": ((str,), "text"),
    "int": ((int,), "a whole number"),
    "long": ((int,), "a whole number"),
    "float": ((int, float), "a number"),
    "double": ((int, float), "a number"),
    "boolean": ((bool,), "true or false"),
}


def _fits(value: Any, kind: Any) -> bool:
    """Tell whether a value is of a type of CWL; True for types that aren't known here."""
    if isinstance(kind, str) and kind.endswith("?"):
        return value is None or _fits(value, kind[:-1])
    if isinstance(kind, str) and kind.endswith("[]"):
        return isinstance(value, list) and all(_fits(one, kind[:-2]) for one in value)
    if isinstance(kind, Mapping) and kind.get("type") == "enum":
        return isinstance(value, str) and value in kind.get("symbols", ())
    if isinstance(kind, Mapping) and kind.get("type") == "array":
        return isinstance(value, list) and all(_fits(one, kind.get("items")) for one in value)
    if kind in ("File", "Directory"):
        return isinstance(value, Mapping) and value.get("class") == kind
    if not isinstance(kind, str) or kind not in _SCALARS:
        return True
    is_flag = isinstance(value, bool)
    return isinstance(value, _SCALARS[kind][0]) and is_flag == (kind == "boolean")


def _words(kind: Any) -> str:
    """Return a type of CWL in words."""
    if isinstance(kind, Mapping):
        kind = f"{kind['items']}[]" if kind.get("type") == "array" else kind
        if isinstance(kind, Mapping):
            return " or ".join(map(str, kind.get("symbols", ())))
    name = str(kind).removesuffix("?")
    if name.endswith("[]"):
        return f"a list, each {_words(name[:-2])}"
    if name in ("File", "Directory"):
        return f"{{class: {name}, path: …}}"
    return _SCALARS[name][1] if name in _SCALARS else name


def names_of_results(process: Mapping[str, Any], processes: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the inputs of a workflow whose values name the results of a scattered step."""
    tools = {id_of(one): one for one in processes}
    found = []
    for _, step in entries(process.get("steps"), "id"):
        run, scatter = step.get("run"), step.get("scatter")
        tool = run if isinstance(run, Mapping) else tools.get(str(run).removeprefix("#"), {})
        scattered = {short(str(one)) for one in (scatter if isinstance(scatter, list) else [scatter])}
        for _, output in entries(tool.get("outputs"), "id", "type"):
            match = _IS_INPUT.fullmatch(str((output.get("outputBinding") or {}).get("glob")))
            if match and match[1] in scattered:
                wiring = dict(entries(step.get("in"), "id", "source"))
                found.append(short(str(wiring.get(match[1], {}).get("source"))))
    return found


def check_names(key: str, values: Sequence[Any], who: str) -> None:
    """Refuse names of results that runners couldn't hand over, before the work instead of after it; `who` gave them."""
    seen = set()
    for value in values:
        if not isinstance(value, str):
            continue  # the runner says what it should be
        if not _NAME.fullmatch(value):
            raise UsageError(
                f"{who} gives {value!r} in {key}, which can't name a directory.",
                "Expected letters, digits and dashes, such as north-1.",
            )
        if value in seen:
            raise UsageError(
                f"{who} gives {value!r} twice in {key}.",
                "Expected different names, since each is the directory of a result.",
                f"Try {value}-2.",
            )
        seen.add(value)


def _is_about(key: str) -> bool:
    """Tell whether a key is meant for the runner: ``cwl:requirements``, ``$namespaces``, ``id``."""
    return ":" in key or key.startswith("$") or key == "id"


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
