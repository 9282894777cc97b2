"""What a suite measured, as Markdown and as charts."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

Runs = list[dict[str, Any]]

COLUMNS: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("wall s", "wall_s", lambda v: f"{v:.1f}"),
    ("CPU s", "cpu_s", lambda v: f"{v:.1f}"),
    ("memory MB", "peak_pss", lambda v: f"{v / 1e6:.0f}"),
    ("fetched MB", "fetched", lambda v: f"{v / 1e6:.1f}"),
    ("requests", "requests", lambda v: f"{v:.0f}"),
    ("tasks", "tasks", lambda v: f"{v:.0f}"),
    ("graph kB", "graph_bytes", lambda v: f"{v / 1e3:.1f}"),
    ("others", "others", lambda v: f"{v:.1f}"),
)
RATIOS = (("wall", "wall_s"), ("CPU", "cpu_s"), ("memory", "peak_pss"), ("fetched", "fetched"))
MARKERS = "osD^vP*Xh"


def say(text: str) -> None:
    """Tell somebody who waits."""
    print(text, file=sys.stderr, flush=True)


def runs_of(result: dict[str, Any], case: str, contender: str) -> Runs:
    """Return the runs that went well, by round."""
    runs = [r for r in result["runs"] if (r["case"], r["contender"]) == (case, contender) and not r.get("failed")]
    return sorted(runs, key=lambda r: r["round"])


def figure(result: dict[str, Any], case: str, contender: str, key: str) -> float | None:
    """Return the median over the rounds."""
    values = [r[key] for r in runs_of(result, case, contender) if r[key] is not None]
    return median(values) if values else None


def ratios(result: dict[str, Any], case: str, contender: str, to: str, key: str) -> list[float]:
    """Return a contender's figure against another's of the same round, for each round that has both."""
    others = {r["round"]: r[key] for r in runs_of(result, case, to)}
    pairs = [(r[key], others.get(r["round"])) for r in runs_of(result, case, contender)]
    return [a / b for a, b in pairs if a is not None and b]


def targets(result: dict[str, Any]) -> list[tuple[str, str, float, bool]]:
    """Return what was aimed at: its name, the target, what was measured, and whether it is met."""
    out: list[tuple[str, str, float, bool]] = []

    def add(title: str, values: Sequence[float], limit: float, *, at_least: bool = False) -> None:
        if values:
            value = median(values)
            sign = "≥" if at_least else "≤"
            out.append(
                (
                    title,
                    f"{sign} {limit:.4g}" if limit >= 1 else f"{sign} {limit:.2f}",
                    value,
                    value >= limit if at_least else value <= limit,
                )
            )

    def of(contender: str, key: str, case: str = "base", to: str = "ours") -> list[float]:
        return ratios(result, case, contender, to, key)

    add("10 m: the public peer's wall time against ours", of("peer", "wall_s"), 10, at_least=True)
    add("10 m: our memory against the public peer's", of("ours", "peak_pss", to="peer"), 1 / 6)
    add("10 m: wall time of odc-stac, tuned, against ours", of("odc-tuned", "wall_s"), 2.5, at_least=True)
    add("10 m: our CPU against odc-stac's, tuned", of("ours", "cpu_s", to="odc-tuned"), 0.45)
    add("10 m: our memory against odc-stac's, tuned", of("ours", "peak_pss", to="odc-tuned"), 1)
    add("10 m: our bytes against odc-stac's, tuned", of("ours", "fetched", to="odc-tuned"), 1)
    add("100 m: the public peer's wall time against ours", of("peer", "wall_s", "coarse"), 20, at_least=True)
    add("100 m: wall time of odc-stac, tuned, against ours", of("odc-tuned", "wall_s", "coarse"), 4, at_least=True)
    add("10 m: our CPU against the bound's", of("ours", "cpu_s", to="bound"), 1.5)
    for case, about in result["cases"].items():
        for run in runs_of(result, case, "ours")[:1]:
            fetched = figure(result, case, "ours", "fetched")
            assert fetched is not None
            add(f"{case}: bytes fetched against the needed tiles", [fetched / about["needed_bytes"]], 1.15)
            add(f"{case}: tasks per unit and block", [run["tasks"] / about["blocks"]], 2)
            add(f"{case}: bytes of graph per task", [run["graph_bytes"] / run["tasks"]], 2000)
    return out


def markdown(result: dict[str, Any]) -> str:
    """Return everything for people."""
    machine, contenders = result["machine"], result["contenders"]
    rounds = 1 + max((r["round"] for r in result["runs"]), default=0)
    software = ", ".join(f"{k} {v}" for k, v in machine["versions"].items())
    lines = [
        f"Made {result['made']} by `{result.get('command', '')}`.",
        "",
        f"{machine['cores']} cores, {machine['memory_bytes'] / 1e9:.0f} GB; {machine['system']}; "
        f"Python {machine['python']}, GDAL {machine['gdal']}, {software}.",
        "",
        f"Medians of up to {rounds} rounds; memory is the peak of the process tree (PSS); × needed is what was fetched "
        "against the compressed tiles that hold a needed pixel; others = cores that were busy with anything else, the "
        "server included.",
        *(f"\n**{note}**" for note in result["notes"]),
        "",
        "| contender | as it was used | version |",
        "|---|---|---|",
        *(f"| {c['title']} | {c['settings']} | {c['version']} |" for c in contenders.values()),
        *(f"| {name} | **not here**: {why} | |" for name, why in result["left_out"].items() if name not in contenders),
    ]
    for case, about in result["cases"].items():
        lines += ["", *_case(result, case, about)]
    lines += ["", *_ratios(result), "", *_bound(result), "", *_agreement(result), "", *_targets(result)]
    failed = [r for r in result["runs"] if r.get("failed")]
    if failed:
        lines += ["", "Failed:", ""]
    for run in failed:
        reason = run["failed"].strip().splitlines()[-1]
        lines.append(f"- {run['case']}, round {run['round'] + 1}, {contenders[run['contender']]['title']}: {reason}")
    return "\n".join(lines) + "\n"


def _case(result: dict[str, Any], case: str, about: dict[str, Any]) -> list[str]:
    height, width = about["grid"]["shape"]
    head = " | ".join(name for name, _, _ in COLUMNS[:4])
    rest = " | ".join(name for name, _, _ in COLUMNS[4:])
    lines = [
        f"### {case}: {about['title']}",
        "",
        f"{width} × {height} px of {about['resolution']:g} m, 3 bands, {about['units']} months, "
        f"{about['scenes']} scenes of {about['passes']} passes, {about['latency_ms']:g} ms; "
        f"needed: {about['needed_tiles']} tiles, {about['needed_bytes'] / 1e6:.1f} MB; "
        f"ours: {about['blocks']} blocks of {about['block_px']} px.",
        "",
        f"| contender | rounds | {head} | × needed | {rest} |",
        "|---|--:|" + "--:|" * (len(COLUMNS) + 1),
    ]
    for name, contender in result["contenders"].items():
        runs = runs_of(result, case, name)
        if not runs:
            continue
        cells = []
        for _, key, show in COLUMNS:
            value = figure(result, case, name, key)
            cells.append("" if value is None else show(value))
        fetched = figure(result, case, name, "fetched")
        cells.insert(4, "" if fetched is None else f"{fetched / about['needed_bytes']:.2f}")
        lines.append(f"| {contender['title']} | {len(runs)} | {' | '.join(cells)} |")
    return lines


def _ratios(result: dict[str, Any]) -> list[str]:
    lines = ["### Times ours, within a round (smallest to largest)"]
    for title, key in RATIOS:
        lines += ["", f"| {title} | " + " | ".join(result["cases"]) + " |", "|---|" + "--:|" * len(result["cases"])]
        for name, contender in result["contenders"].items():
            cells = [_spread(ratios(result, case, name, "ours", key)) for case in result["cases"]]
            if name != "ours" and any(cells):
                lines.append(f"| {contender['title']} | {' | '.join(cells)} |")
    return lines


def _spread(values: Sequence[float]) -> str:
    if not values:
        return ""
    text = f"{median(values):.2f}"
    return text if len(values) == 1 else f"{text} ({min(values):.2f}-{max(values):.2f})"


def _bound(result: dict[str, Any]) -> list[str]:
    lines = [
        "### The bound, CPU seconds by cause",
        "",
        "| case | start | read | decode | decoder MB/s | median | encode | work | placing, not counted | ours, CPU | "
        "ours / (start + work) | ours / work |",
        "|---|" + "--:|" * 11,
    ]
    for case in result["cases"]:
        runs = runs_of(result, case, "bound")
        mine = figure(result, case, "ours", "cpu_s")
        if not runs or mine is None:
            continue
        p = {key: median(r["phases"][key] for r in runs) for key in runs[0]["phases"]}
        causes = [p[f"{name}_cpu_s"] for name in ("start", "read", "decode")]
        more = [p[f"{name}_cpu_s"] for name in ("median", "encode", "work", "place")]
        work, start = p["work_cpu_s"], p["start_cpu_s"]
        cells = [f"{v:.2f}" for v in causes] + [f"{p['decoded_per_s'] / 1e6:.0f}"] + [f"{v:.2f}" for v in more]
        lines.append(f"| {case} | {' | '.join(cells)} | {mine:.2f} | {mine / (start + work):.2f} | {mine / work:.2f} |")
    return lines


def _agreement(result: dict[str, Any]) -> list[str]:
    lines = [
        "### Pixels against ours",
        "",
        "The bound doesn't place what is in the other zone; the public peer counts a pass over both tiles twice.",
        "",
        "| case | contender | equal | within 1 | where one tile covers: within 1 | same bytes |",
        "|---|---|--:|--:|--:|---|",
    ]
    for case, found in result["agreement"].items():
        for name, a in found.items():
            shares = [_percent(a[key]) for key in ("equal", "within_1", "within_1_one_tile")]
            same = "yes" if a["same_bytes"] else ""
            lines.append(f"| {case} | {result['contenders'][name]['title']} | {' | '.join(shares)} | {same} |")
    return lines


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.3%}"


def _targets(result: dict[str, Any]) -> list[str]:
    lines = ["### Targets", "", "| what | target | measured | |", "|---|--:|--:|---|"]
    for title, target, value, met in targets(result):
        lines.append(f"| {title} | {target} | {value:.2f} | {'met' if met else '**missed**'} |")
    return lines


def chart(result: dict[str, Any], folder: Path) -> None:
    """Write ``suite.svg`` and ``suite.png``: medians with their spread, by case, on logarithmic axes."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator, NullFormatter

    cases = list(result["cases"])
    took_part = {run["contender"] for run in result["runs"]}
    contenders = {name: c for name, c in result["contenders"].items() if name in took_part}
    panels = (("wall time, s", "wall_s", 1.0), ("CPU time, s", "cpu_s", 1.0))
    panels += (("peak memory, MB", "peak_pss", 1e-6), ("fetched, MB", "fetched", 1e-6))
    figure_, axes = plt.subplots(2, 2, figsize=(13, 9), sharex=True)
    colors = plt.get_cmap("tab10").colors
    step = 0.8 / max(len(contenders), 1)
    for axis, (title, key, factor) in zip(axes.flat, panels, strict=True):
        for number, (name, contender) in enumerate(contenders.items()):
            xs, middle, below, above = [], [], [], []
            for place, case in enumerate(cases):
                values = [r[key] * factor for r in runs_of(result, case, name) if r[key] is not None]
                if values:
                    xs.append(place + (number - (len(contenders) - 1) / 2) * step)
                    middle.append(median(values))
                    below.append(middle[-1] - min(values))
                    above.append(max(values) - middle[-1])
            axis.errorbar(
                xs, middle, (below, above), fmt=MARKERS[number % len(MARKERS)], label=contender["title"],
                color=colors[number % len(colors)], markersize=9 if name == "ours" else 6, capsize=2, linestyle="none",
            )  # fmt: skip
        axis.set_title(title)
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_formatter(NullFormatter())
        axis.grid(visible=True, axis="y", which="both", alpha=0.25)
        for place in range(1, len(cases)):
            axis.axvline(place - 0.5, color="0.85", linewidth=0.8)
        axis.set_xticks(range(len(cases)), cases)
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure_.legend(handles, labels, loc="lower center", ncols=5, frameon=False)
    figure_.tight_layout(rect=(0, 0.08, 1, 1))
    for kind in ("svg", "png"):
        figure_.savefig(folder / f"suite.{kind}", dpi=110)
    plt.close(figure_)
