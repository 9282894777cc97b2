"""Scripts that start workers: each worker imports the script, so that unguarded work would begin again in each."""

from __future__ import annotations

import ast
import multiprocessing
import sys
import threading
from multiprocessing.spawn import get_preparation_data
from pathlib import Path
from types import FrameType

from eoap_dask.errors import UsageError

GUARD = 'if __name__ == "__main__":'
_TELLS_MAIN = ("__name__", "current_process", "parent_process")
"""Words in the condition of a guard: Python's usual one, and those of multiprocessing."""


def check_script() -> None:
    """Raise `UsageError` where a worker's import of the running script would come here again.

    In such a worker, if it gets here all the same, end it: its parent says why.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):  # Python's own mark of a process that begins
        raise SystemExit(1)
    _hide_standard_input()
    frame = _script_frame() if imports_script() else None
    if frame is None or _is_guarded(frame):
        return
    raise UsageError(
        f"Line {frame.f_lineno} of {Path(frame.f_code.co_filename).name} starts workers, which import the script, and "
        "so would begin its work again.",
        f"Expected that line under `{GUARD}`.",
        "Put what the script does into a function main(), and call it there.",
    )


def imports_script() -> bool:
    """Tell whether a process that this one spawns imports a script of its own, which it doesn't in notebooks."""
    data = get_preparation_data("")
    name = data.get("init_main_from_name") or ""
    return "init_main_from_path" in data or (bool(name) and name.rpartition(".")[2] != "__main__")


def _hide_standard_input() -> None:
    """Let workers not look for a script that came from standard input: its `__file__` is no path, but taken for one."""
    main = sys.modules.get("__main__")
    if getattr(main, "__file__", None) == "<stdin>":
        del main.__file__  # type: ignore[union-attr]


def _script_frame() -> FrameType | None:
    """Return the frame of the script itself, not of its functions, as it runs in the main thread."""
    names = getattr(sys.modules.get("__main__"), "__dict__", None)
    frame: FrameType | None
    frame = sys._current_frames().get(threading.main_thread().ident or 0)  # noqa: SLF001 - it is documented
    while frame is not None and not (frame.f_globals is names and frame.f_code.co_name == "<module>"):
        frame = frame.f_back
    return frame


_parsing = threading.Lock()


def _is_guarded(frame: FrameType) -> bool:
    """Tell whether the line that runs is under a guard, or after one that ends the script; True where unknown."""
    try:
        with _parsing:
            tree = ast.parse(Path(frame.f_code.co_filename).read_bytes())
    # a notebook's cell, an archive, what was changed meanwhile; Python 3.11's parser counts for all threads at once
    except (OSError, SyntaxError, ValueError, SystemError):
        return True
    line = frame.f_lineno
    guards = [one for one in ast.walk(tree) if isinstance(one, ast.If) and _names_main(one.test)]
    return any(
        one.lineno <= line <= (one.end_lineno or 0) or (one.lineno < line and one in tree.body and _ends(one.body[-1]))
        for one in guards
    )


def _names_main(test: ast.expr) -> bool:
    return any(word in ast.unparse(test) for word in _TELLS_MAIN)


def _ends(last: ast.stmt) -> bool:
    """Tell whether a statement ends the script: ``raise``, or a call of ``exit`` or the like."""
    if isinstance(last, ast.Expr) and isinstance(last.value, ast.Call):
        return ast.unparse(last.value.func).rpartition(".")[2] in ("exit", "_exit", "quit")
    return isinstance(last, ast.Raise)
