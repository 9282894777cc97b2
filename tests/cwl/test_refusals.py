"""Wrong input to a run: one sentence each, before anything is started."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.support.command_line import Shell, error_of
from tests.support.cwl import DASK, SMALL, WORKFLOWS, in_workflow, shell_tool, write

from eoap_dask.cwl.document import load
from eoap_dask.cwl.jobs import check_job
from eoap_dask.cwl.runner import _joined, run_cwl
from eoap_dask.errors import EoapError, UsageError

MOSAIC = str(WORKFLOWS / "monthly-composite.cwl")
SCATTER = str(WORKFLOWS / "monthly-composite-scatter.cwl")


@pytest.fixture(autouse=True)
def here(cwltool: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)


def refused(*arguments: str) -> str:
    """Run, and return why not."""
    with pytest.raises(EoapError) as caught:
        run_cwl(arguments)
    assert caught.value.exit_code == 2
    return str(caught.value)


@pytest.mark.parametrize(
    ("job", "text"),
    [
        (
            "resolutoin: 3",
            "The job file job.yml gives resolutoin, which monthly-composite doesn't take. Expected start-d",
        ),
        (
            "start_date: x",
            "The job file job.yml gives start_date, which monthly-composite doesn't take. Expected start-d",
        ),
        (
            "a: 1\nb: 2\nc: 3",
            "The job file job.yml gives a, b and c, which monthly-composite doesn't take. Expected star",
        ),
        ("[1, 2]", "The job file job.yml holds no inputs. Expected lines such as resolution: 100."),
        ("just text", "The job file job.yml holds no inputs."),
        ("a: [1", "The job file job.yml isn't YAML, line 1: expected ',' or ']', but got '<stream end>'."),
    ],
)
def test_jobs(job: str, text: str) -> None:
    Path("job.yml").write_text(job)
    assert refused(MOSAIC, "job.yml").startswith(text)


def test_a_misspelt_input_is_guessed() -> None:
    Path("job.yml").write_text("resolutoin: 3")
    assert refused(MOSAIC, "job.yml").endswith("Did you mean resolution?")
    Path("job.yml").write_text("start_date: 2020-10-01")
    assert refused(MOSAIC, "job.yml").endswith("Did you mean start-date?")


def test_missing_inputs() -> None:
    Path("job.yml").write_text("areas: ['1,2,3,4']")
    said = refused(str(WORKFLOWS / "monthly-composite-scatter.cwl"), "job.yml")
    assert said == "The job file job.yml lacks names, which monthly-composite-scatter needs."
    Path("job.yml").write_text("{}")
    said = refused(str(WORKFLOWS / "monthly-composite-scatter.cwl"), "job.yml")
    assert said == "The job file job.yml lacks areas and names, which monthly-composite-scatter needs."


def test_a_list_of_one_is_a_list() -> None:
    Path("job.yml").write_text("bands: red")
    assert refused(MOSAIC, "job.yml") == (
        "The job file job.yml gives bands as text, 'red'. Expected a list, also of one. Try bands: [red]."
    )


@pytest.mark.parametrize("name", ["../x", "a/b", "..", ".hidden", "-x", "a b", "*", ""])
def test_names_that_cannot_be(name: str) -> None:
    write(Path("job.yml"), {"names": ["fine-1.b_ü", name], "areas": ["1,2,3,4", "1,2,3,4"]})
    said = refused(str(WORKFLOWS / "monthly-composite-scatter.cwl"), "job.yml")
    assert said == (
        f"The job file job.yml gives {name!r} in names, which can't name a directory. "
        "Expected letters, digits and dashes, such as north-1."
    )


def test_names_twice() -> None:
    write(Path("job.yml"), {"names": ["a", "b", "a"], "areas": ["1,2,3,4"] * 3})
    expected = " gives 'a' twice in names. Expected different names, since each is the directory of a result. Try a-2."
    scatter = str(WORKFLOWS / "monthly-composite-scatter.cwl")
    assert refused(scatter, "job.yml") == f"The job file job.yml{expected}"
    given = ["--names", "a", "--areas=1,2,3,4", "--names=a", "--areas", "1,2,3,4"]
    assert refused(scatter, *given) == f"eoap-dask run-cwl{expected}"


def test_values_that_name_nothing_may_be_the_same() -> None:
    tool = shell_tool("true", inputs={"n": "string"})
    document = in_workflow(
        tool,
        inputs={"ns": "string[]"},
        steps={"one": {"run": "#toy", "scatter": "n", "in": {"n": "ns"}, "out": ["out"]}},
    )
    write(Path("job.yml"), {"ns": ["a", "a", "../x"]})
    processes = load(write(Path("flow.cwl"), document)).processes
    check_job(Path("job.yml"), processes[0], "flow", processes)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("resolution: 100", "tool.cwl isn't a CWL file. Expected cwlVersion, and a class such as Workflow or"),
        ("#!/bin/sh\necho: [", "The CWL file tool.cwl isn't YAML, line"),
        ("class: CommandLineTool", "tool.cwl doesn't say its cwlVersion. Expected v1.2, or v1.0 or v1.1."),
        ("cwlVersion: v1.2\n$graph: []", "tool.cwl has an empty $graph. Expected a Workflow and its CommandLineTools."),
        ("\x00\x01", "The CWL file tool.cwl isn't YAML"),
    ],
)
def test_files_that_are_not_cwl(text: str, said: str) -> None:
    Path("tool.cwl").write_text(text)
    assert refused("tool.cwl").startswith(said)


def test_files_that_cannot_be_read() -> None:
    assert refused("none.cwl") == "The CWL file none.cwl can't be read: No such file or directory. Check its path."
    Path("raw.cwl").write_bytes(b"\xff\xfe\xff")
    assert refused("raw.cwl") == "The CWL file raw.cwl isn't text. Expected YAML or JSON."
    said = refused(MOSAIC, "none.yml")
    assert said == "The job file none.yml can't be read: No such file or directory. Check its path."
    assert refused() == "No workflow was given. Expected a CWL file and a job file. Try eoap-dask run-cwl --help."


def test_which_process() -> None:
    assert refused(f"{MOSAIC}#monthly-composit").endswith(
        "has no process monthly-composit. Expected cloudless-mosaic or monthly-composite. "
        "Did you mean monthly-composite?"
    )
    document = in_workflow(shell_tool("true"))
    document["$graph"].append({**document["$graph"][0], "id": "second"})
    write(Path("two.cwl"), document)
    assert refused("two.cwl") == (
        "two.cwl holds 2 workflows. Expected one, or the name of the one that is meant. Try two.cwl#flow."
    )


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"clusterMaxCore": 1, "clusterMaxCores": None}, "toy has no field clusterMaxCore, did you mean clusterMaxCor"),
        ({"workerMemory": None}, "toy lacks the field workerMemory, such as workerMemory: 4G."),
        ({"workerCores": 0.5}, "toy has workerCores 0.5, where a whole number was expected, such as workerCores: 2."),
        ({"image": "x"}, "toy has no field image; expected workerCores, workerCoresLimit, workerMemory, clusterMaxCo"),
        ({"clusterMaxMemory": "256M"}, "toy leaves room for no worker: clusterMaxMemory 256M is less than workerMemor"),
    ],
)
def test_fields(fields: dict[str, Any], text: str) -> None:
    given = {key: value for key, value in (SMALL | fields).items() if value is not None}
    write(Path("tool.cwl"), shell_tool("true", given))
    assert refused("tool.cwl").startswith(text)


def test_more_than_one_mistake_is_said() -> None:
    write(Path("tool.cwl"), shell_tool("true", {**SMALL, "workerCores": 0.5, "workerMemory": 7}))
    assert refused("tool.cwl").endswith("See eoap-dask cwl validate tool.cwl for 1 more.")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("clip: true", "gives clip as True. Expected clip or no-clip."),
        ("cloud-mask: best", "gives cloud-mask as 'best'. Expected scl or none."),
        ("resolution: hundred", "gives resolution as 'hundred'. Expected a number."),
        ("max-items: 1.5", "gives max-items as 1.5. Expected a whole number."),
        ("resolution: true", "gives resolution as True. Expected a number."),
        ("stac: 5", "gives stac as 5. Expected text."),
        ("bands: [red, 5]", "gives bands as ['red', 5]. Expected a list, each text."),
        ("items: items.json", "gives items as 'items.json'. Expected {class: File, path: …}."),
        ("items: {class: File, path: nowhere.json}", "gives 'nowhere.json' as items, which is not there."),
        ("items: {class: File, location: 'file:///tmp'}", "gives 'file:///tmp' as items, which is a directory."),
    ],
)
def test_values_of_another_type(text: str, says: str) -> None:
    Path("job.yml").write_text(text)
    assert says in refused(MOSAIC, "job.yml")


def test_a_scatter_over_lists_of_different_lengths() -> None:
    Path("job.yml").write_text("names: [a, b]\nareas: ['1,2,3,4']")
    assert "gives 2 names and 1 areas. Expected as many of each." in refused(SCATTER, "job.yml")
    Path("job.yml").write_text("names: [a, b]\nareas: [-122.25,47.55]")
    assert "gives areas as [-122.25, 47.55]. Expected a list, each text." in refused(SCATTER, "job.yml")


def test_inputs_as_options() -> None:
    assert refused(MOSAIC, "--items", "nowhere.json").startswith(
        "eoap-dask run-cwl gives 'nowhere.json' as items, which is not there."
    )
    assert refused(MOSAIC, "--resolution", "3", "--outdir", "x").startswith(
        "--outdir is an option of cwltool, and comes after inputs."
    )
    assert _joined(["--aoi", "-121.9,47.7", "--crs", "auto", "-x"]) == ["--aoi=-121.9,47.7", "--crs", "auto", "-x"]


@pytest.mark.parametrize("path", sorted(WORKFLOWS.glob("*.yml")), ids=lambda path: path.stem)
def test_the_examples_are_jobs_of_their_workflows(path: Path, tmp_path: Path) -> None:
    document = load(path.with_name(f"{path.stem.removesuffix('-demo')}.cwl"))
    for name in ("fields/fields.gpkg", "changes/cells.gpkg"):  # where a job of the demo's archive looks for it
        (tmp_path / "archive" / name).parent.mkdir(parents=True)
        (tmp_path / "archive" / name).touch()
    job = tmp_path / "workflows" / path.name
    job.parent.mkdir()
    job.write_text(path.read_text())
    check_job(job, document.process(""), path.stem, document.processes)


def test_options() -> None:
    Path("job.yml").write_text("resolution: 100")
    assert refused(MOSAIC, "job.yml", "--nonsense") == (
        "cwltool has no option --nonsense. Expected its options, or nothing, after the job file. "
        "Inputs go into the job file."
    )
    assert refused(MOSAIC, "--resolutoin", "3").startswith(
        "--resolutoin is neither an option of cwltool nor an input of monthly-composite. Expected start-date, "
    )


def test_a_prefix_that_cannot_be(tmp_path: Path) -> None:
    Path("file").touch()
    write(Path("tool.cwl"), shell_tool("true", None))
    said = refused("--tmp-outdir-prefix", "file/x", "tool.cwl")
    assert said == "No files can be made below --tmp-outdir-prefix file/x: File exists."


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    """The address of a server of the working directory."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_files_from_elsewhere_are_checked_as_well(site: str) -> None:
    shutil.copy(MOSAIC, "mosaic.cwl")
    Path("job.yml").write_text("resolutoin: 3")
    write(Path("wrong.cwl"), shell_tool("true", {**SMALL, "workerCores": 0.5}))
    expected = "The job file job.yml gives resolutoin, which monthly-composite doesn't take."
    assert refused("--no-doc-cache", f"{site}/mosaic.cwl", "job.yml").startswith(expected)
    assert refused("--no-doc-cache", f"{site}/mosaic.cwl", f"{site}/job.yml").startswith(expected)
    assert refused("--no-doc-cache", MOSAIC, f"{site}/job.yml").startswith(expected)
    assert refused(MOSAIC, Path("job.yml").absolute().as_uri()).endswith("Did you mean resolution?")
    assert refused("--no-doc-cache", f"{site}/wrong.cwl").startswith("toy has workerCores 0.5, where a whole number")
    assert refused("--no-doc-cache", f"{site}/job.yml").startswith("job.yml isn't a CWL file.")
    said = refused("--no-doc-cache", f"{site}/none.cwl")
    assert said.startswith(f"The CWL file {site}/none.cwl can't be fetched: 404 Client Error: ")


@pytest.mark.long
def test_a_workflow_from_elsewhere_runs(site: str, shell: Shell, tmp_path: Path) -> None:
    write(tmp_path / "flow.cwl", in_workflow(shell_tool("echo x > out", None)))
    done = shell.run("run-cwl", "--no-doc-cache", f"{site}/flow.cwl")
    assert done.returncode == 0, done.stderr
    assert shell.files() == ["out"]
    assert "private Gateway" not in done.stderr


def test_without_cwltool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eoap_dask.cwl.validate.find_spec", lambda name: None)
    assert refused(MOSAIC) == "cwltool isn't installed. Try pip install 'eoap-dask[cwl]'."


def test_the_command_says_so_too(shell: Shell) -> None:
    write(shell.cwd / "tool.cwl", shell_tool("true", {**SMALL, "workerCores": "1"}))
    done = shell.run("run-cwl", "tool.cwl")
    assert done.returncode == 2
    assert error_of(done) == "toy has workerCores '1', where a whole number was expected, such as workerCores: 2."
    shell.assert_tidy()


def test_a_gateway_that_cannot_be_reached(shell: Shell) -> None:
    done = shell.run("run-cwl", "--dask-gateway-url", "http://127.0.0.1:9", MOSAIC)
    assert done.returncode == 5
    assert error_of(done).startswith("The Dask Gateway at http://127.0.0.1:9 can't be reached: ")
    done = shell.run("run-cwl", "--dask-gateway-url", "nowhere", MOSAIC)
    assert done.returncode == 2
    assert "'nowhere' can't be the address of a Dask Gateway." in done.stderr
    shell.assert_tidy()


def test_what_cwltool_refuses_is_usage(shell: Shell) -> None:
    job = shell.cwd / "job.yml"
    job.write_text("items: {class: File}")
    done = shell.run("run-cwl", MOSAIC, job.name)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) > 1
    assert done.stderr.splitlines()[-1] == (
        "Error: cwltool refuses the workflow or its job; see above. Try --debug, which says more."
    )
    shell.assert_tidy()


def test_a_requirement_that_is_not_ours(shell: Shell) -> None:
    tool = shell_tool("true", None, requirements={"calrissian:Nonsense": {}})
    done = shell.run("run-cwl", write(shell.cwd / "tool.cwl", tool).name)
    assert done.returncode == 2
    assert "Nonsense" in done.stderr
    with pytest.raises(UsageError):
        run_cwl([str(shell.cwd / "tool.cwl")])


def test_names_of_the_requirement_in_this_file_are_the_schemas() -> None:
    from eoap_dask.cwl.requirement import CWL_NAME, FIELDS

    assert (DASK, tuple(SMALL)) == (CWL_NAME, FIELDS)
