"""A script without the guard is told of it, before anything is begun twice."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

CHECK = "from eoap_dask.cluster.script import check_script\n"
GUARD = 'if __name__ == "__main__":\n    '


def run(script: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *(arguments or (str(script),))]
    return subprocess.run(command, cwd=script.parent, capture_output=True, text=True, timeout=120, check=False)


GUARDED = {
    "guard": GUARD + "check_script()",
    "main": f"def main():\n    check_script()\n{GUARD}main()",
    "turned round": 'if "__main__" == __name__:\n    check_script()',
    "otherwise": 'if __name__ != "__main__":\n    pass\nelse:\n    check_script()',
    "nested": GUARD + "for _ in range(1):\n        with open(__file__):\n            check_script()",
    "ends before": 'import sys\nif __name__ != "__main__":\n    sys.exit()\ncheck_script()',
    "raises before": 'if __name__ != "__main__":\n    raise SystemExit\ncheck_script()',
    "of multiprocessing": "import multiprocessing as m\nif m.parent_process() is None:\n    check_script()",
    "thread": f"import threading\n{GUARD}t = threading.Thread(target=check_script); t.start(); t.join()",
}
UNGUARDED = {
    "bare": "check_script()",
    "function": "def main():\n    check_script()\nmain()",
    "after a guard": f"{GUARD}pass\ncheck_script()",
    "another condition": "if True:\n    check_script()",
    "guard that goes on": 'if __name__ != "__main__":\n    print("worker")\ncheck_script()',
    "with": "with open(__file__):\n    check_script()",
    "imported": "import other",
    "thread": "import threading as h\nr = []\ndef f():\n    try:\n        check_script()\n    except Exception as e:\n"
    "        r.append(e)\nt = h.Thread(target=f); t.start(); t.join()\nraise r[0]",
}  # fmt: skip


@pytest.mark.parametrize("kind", GUARDED)
def test_a_guard_is_seen(kind: str, tmp_path: Path) -> None:
    script = tmp_path / "make.py"
    script.write_text(CHECK + GUARDED[kind])
    done = run(script)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("kind", UNGUARDED)
def test_no_guard_is_told(kind: str, tmp_path: Path) -> None:
    script = tmp_path / "make.py"
    script.write_text(CHECK + UNGUARDED[kind])
    (tmp_path / "other.py").write_text(CHECK + "check_script()")
    done = run(script)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert "of make.py starts workers, which import the script, and so would begin its work again." in last
    assert 'Expected that line under `if __name__ == "__main__":`.' in last


@pytest.mark.parametrize("arguments", [("-c", CHECK + "check_script()"), ("-m", "package")])
def test_what_workers_do_not_import_needs_none(arguments: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__main__.py").write_text(CHECK + "check_script()")
    assert run(tmp_path / "x", *arguments).returncode == 0


def test_a_script_from_standard_input_starts_workers() -> None:
    """They can't import it, as little as a notebook."""
    script = """
    from eoap_dask.cluster.local import local_client
    from eoap_dask.cluster.size import Size
    def twice(number):
        return 2 * number
    with local_client(Size(1, 1, 1 << 30)) as client:
        print(client.submit(twice, 21).result())
    """
    done = subprocess.run(
        [sys.executable, "-"], input=textwrap.dedent(script), capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout) == (0, "42\n"), done.stderr


def test_a_module_that_is_run_is_a_script_too(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(CHECK + "check_script()")
    assert "Line 2 of module.py starts workers" in run(tmp_path / "x", "-m", "module").stderr


def test_an_application_says_so_before_anything(tmp_path: Path) -> None:
    """Its script is begun once, and nothing is searched or written."""
    script = tmp_path / "make.py"
    script.write_text(
        textwrap.dedent("""
        print("begun", flush=True)
        import eoap_dask as eo
        eo.cloudless_mosaic(items="nothing.json", aoi="15,41.5,15.1,41.6", output_dir="out")
        """)
    )
    (tmp_path / "nothing.json").write_text(json.dumps({"type": "FeatureCollection", "features": []}))
    done = run(script)
    assert (done.returncode, done.stdout) == (1, "begun\n")
    assert done.stderr.splitlines()[-1] == (
        "eoap_dask.errors.UsageError: Line 4 of make.py starts workers, which import the script, and so would begin "
        'its work again. Expected that line under `if __name__ == "__main__":`. Put what the script does into a '
        "function main(), and call it there."
    )
    assert not (tmp_path / "out").exists()
    script.write_text(script.read_text().replace("eo.cloud", GUARD + "eo.cloud"))
    assert "NothingFoundError" in run(script).stderr  # it went on


def test_a_guard_that_is_none_ends_the_workers(tmp_path: Path) -> None:
    """Where it only looks like one, the worker ends at once and without a word; its parent says why."""
    script = tmp_path / "make.py"
    script.write_text(
        textwrap.dedent("""
        from eoap_dask.cluster.local import local_client
        from eoap_dask.cluster.size import Size
        if __name__ != "other":
            print("begun", flush=True)
            with local_client(Size(1, 1, 1 << 30)):
                print("started", flush=True)
        """)
    )
    done = run(script)
    assert done.returncode == 1
    assert set(done.stdout.split()) == {"begun"}
    assert done.stderr.splitlines()[-1].startswith("eoap_dask.errors.ClusterError: The local Dask cluster didn't start")
    assert 'must stand under `if __name__ == "__main__":`' in done.stderr.splitlines()[-1]


@pytest.mark.long
def test_a_guarded_script_runs_once(tmp_path: Path) -> None:
    script = tmp_path / "make.py"
    script.write_text(
        textwrap.dedent("""
        from eoap_dask.cluster.local import local_client
        from eoap_dask.cluster.size import Size
        if __name__ == "__main__":
            print("begun", flush=True)
            with local_client(Size(1, 1, 1 << 30)) as client:
                print(client.submit(sum, [1, 2]).result())
        """)
    )
    done = run(script)
    assert (done.returncode, done.stdout) == (0, "begun\n3\n"), done.stderr
