"""From a plan to a published product: what all applications do alike, once they know what they want."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from uuid import uuid4

from loguru import logger

from eoap_dask.cluster.connect import is_embedded, open_client
from eoap_dask.cluster.gateway.evidence import Evidence, evidence, performance_report
from eoap_dask.cluster.gateway.versions import check_versions
from eoap_dask.cluster.size import size_of
from eoap_dask.errors import EoapError, NothingFoundError, OutputError, StoppedError, UsageError
from eoap_dask.files import dump_json, write_json
from eoap_dask.items.odd import odd_items_said
from eoap_dask.logs import log_to, of_run
from eoap_dask.output.layout import LAYOUT
from eoap_dask.publish.holdings import LEDGER, Holdings, UnitState, product_units, record_of, records_in
from eoap_dask.publish.publication import Publication
from eoap_dask.run.account import account, blank, failed_units, ledger, too_many
from eoap_dask.run.capacity import check_disk, check_memory
from eoap_dask.run.control import Control
from eoap_dask.run.earlier import Earlier, keep_others, left_out, refuse_other_retry
from eoap_dask.run.engine import Engine, FinishUnit, Outcome
from eoap_dask.run.events import EVENTS_FILE, Event, EventFile, Listener, ignore, tell_both
from eoap_dask.run.options import RunOptions
from eoap_dask.run.orders import Orders
from eoap_dask.run.plan import Plan, UnitPlan, sized
from eoap_dask.run.product import LEFT_OUT
from eoap_dask.run.result import Run
from eoap_dask.run.schedule import Schedule, Units, content_of
from eoap_dask.run.sink import check_shared, workers_write
from eoap_dask.run.summary import Figures, UnitSummary, UnitTimes, few_seen, no_figures
from eoap_dask.run.unit import Failure
from eoap_dask.run.watcher import NoWatcher, Watcher
from eoap_dask.scenes.parse import source_href
from eoap_dask.stac.catalog import with_assets, write_catalog
from eoap_dask.stac.item import with_period
from eoap_dask.stac.records import AssetRecord
from eoap_dask.text import few, plural, show
from eoap_dask.values import as_text

if TYPE_CHECKING:
    from distributed import Client

    from eoap_dask.items.itemset import ItemSet
    from eoap_dask.publish.publisher import Publisher

P = TypeVar("P")

Describe = Callable[[Sequence[Mapping[str, Any]]], tuple[Mapping[str, Any], Mapping[str, Any]]]
"""Given the items, return the collection and the catalog."""

Conclude = Callable[[Path, Callable[[str, str], Path], Sequence[Mapping[str, Any]]], Sequence[AssetRecord]]
"""Given the directory of the catalog, where a unit's file lies (by its key and name), and the items, write what belongs
to the product as a whole, and return it as assets of the collection."""


def nothing_more(*_: object) -> tuple[AssetRecord, ...]:
    """Write nothing beside the units."""
    return ()


ITEMS_FILE = "items.json"
"""The items that a product was made from, beside its catalog."""


@dataclass(frozen=True)
class Production:
    """What an application hands over: what is to be made, and how a finished unit and a product are described."""

    plan: Plan
    finish: FinishUnit
    describe: Describe
    items: ItemSet | None = None
    """What was found, to be saved beside the product; None where units aren't made from STAC items."""
    units: Units | None = None
    """Units that come as the run goes on, instead of the plan's."""
    figures: Figures = no_figures
    """Gives an application's own figures for the summary of a unit."""
    conclude: Conclude = nothing_more
    """Writes the files of the product as a whole."""
    watch: Callable[[Path], Watcher] = lambda _: NoWatcher()
    """Given the output directory as it is before the run, returns what reports on the run beside the product."""
    only: Collection[str] | None = None
    """Keys of the units that are made; others of the plan stay as far as they are finished. None for all."""


@dataclass(frozen=True)
class Hooks:
    """Who listens to a run, and who controls it."""

    run: str = ""
    """Id of the run, in its events and log, another one for each run; made anew where it is empty."""
    listener: Listener = ignore
    """Gets every event."""
    control: Control = field(default_factory=Control)
    unit_done: Callable[[dict[str, Any]], None] = lambda _: None
    """Gets the item of each unit that is finished, by this run or before, once it is kept whatever happens; in the
    thread of the run."""
    unit_failed: Callable[[Failure], None] = lambda _: None
    """Gets each unit that failed, or can't be made because another failed."""
    published: Callable[[Run], None] = lambda _: None
    """Gets the run when its product is published."""

    def __post_init__(self) -> None:
        as_text(self.run, "run", "2020-10")
        if not isinstance(self.control, Control):
            raise UsageError(f"control must be a Control, got {show(self.control)}.", "", "Try control=Control().")
        for name in ("listener", "unit_done", "published"):
            if not callable(getattr(self, name)):
                raise UsageError(f"{name} must be a function, got {show(getattr(self, name))}.")


def produce(
    production: Production,
    options: RunOptions,
    hooks: Hooks | None = None,
    *,
    client: Client | None = None,
    publisher: type[Publisher] = Publication,
) -> Run:
    """Make units and publish them.

    Parameters
    ----------
    production : Production
    options : RunOptions
    hooks : Hooks, optional
    client : distributed.Client, optional
        Where to work; by default as the options say.
    publisher
        `Publication` makes a whole product appear at once, `UnitPublication` each unit when it is finished.

    Raises
    ------
    UnitsFailedError
        when more units failed than allowed; finished ones are kept, with the ledger
    StoppedError
        when `Hooks.control` says so; finished units are kept
    ClusterError, OutputError, UsageError
    """
    started, hooks, plan = time.monotonic(), hooks or Hooks(), production.plan
    hooks = replace(hooks, run=hooks.run or uuid4().hex)
    with of_run(hooks.run):
        for key in plan.empty:
            is_cut = production.items is not None and production.items.truncated
            why = "The search was cut before" if is_cut else "Nothing was found for"
            logger.warning("{} {}: it is left out.", why, key)
        if plan.odd_items:
            logger.warning("{}", odd_items_said(plan.odd_items))
        _others(plan, _earlier(production, options, publisher))
        try:
            run = _publish(production, options, hooks, client, publisher, started)
        except OSError as exc:  # a full disk, mostly
            raise OutputError(
                f"{options.output_dir} can't be written: {exc.strerror or exc}.",
                "What is finished is kept.",
                "Make room, and run the same command again.",
            ) from exc
        hooks.published(run)
    return run


def _publish(
    production: Production,
    options: RunOptions,
    hooks: Hooks,
    client: Client | None,
    publisher: type[Publisher],
    started: float,
) -> Run:
    plan, watcher = production.plan, production.watch(options.output_dir)
    only = production.only
    if options.retry_failed:
        only = _with_needs(plan, failed_units(options.output_dir))
        refuse_other_retry(plan, options.output_dir)
    times = UnitTimes(tell_both(watcher, hooks.listener))
    with publisher(options.output_dir, plan.application, resume=options.resume, update=True) as publication:
        earlier = _earlier(production, options, publisher)
        others = _others(plan, earlier)  # again, now that we have the lock: another run may have published
        with (
            _watched(watcher, publication.root),
            log_to(publication.root / "run.log", hooks.run),
            EventFile(publication.root / EVENTS_FILE, times, hooks.run) as tell,
        ):
            if production.items is not None:
                production.items.save(publication.root / ITEMS_FILE)
            units = len(plan.units) if production.units is None else 0
            tell(Event("run", blocks_total=plan.blocks, message=plan.headline, units_total=units))
            with _end_told(tell), Orders(publication.scratch, hooks.control, partial(_tell_changed, tell)):
                schedule = Schedule(
                    plan.units if production.units is None else production.units,
                    lambda planned: _take_over(planned, options, publication, earlier, hooks, tell, plan.blocks),
                    only,
                )
                if options.retry_failed:  # for the next run, if this one is killed
                    again = [Failure(key, "It failed before, and is made again.").to_dict() for key in only or ()]
                    write_json(publication.root / LEDGER, {"failures": again})
                if production.units is None:
                    _leave_out([u.unit.key for u in plan.units], publication, earlier)
                if production.units is None:
                    schedule.look_ahead()
                    others = (*others, *(key for key in schedule.left if key in earlier.keys))
                kept = keep_others(others, earlier, publication)
                outcome = _carry_out(production, schedule, options, publication, hooks, tell, client)
                if production.units is not None:
                    kept = keep_others(earlier.others(schedule.keys), earlier, publication)
                if kept:
                    if production.items is not None:
                        sources = _with_sources_of(kept, production.items, publication.out / ITEMS_FILE)
                        sources.save(publication.root / ITEMS_FILE)
                    logger.info("{}: kept as {}.", ", ".join(kept), "it is" if len(kept) == 1 else "they are")
                seconds = time.monotonic() - started
                finished = [outcome.items[key] for key in schedule.keys if key in outcome.items]
                is_published = not (publication.keeps_others or watcher.is_stale) and _is_published(
                    publication.out, outcome, kept
                )
                if production.only is None:
                    _refuse_left(production, schedule, options, outcome, publication, kept)
                if not is_published:
                    _refuse_failed(production, schedule, options, outcome, publication, kept, seconds)
                    listed = sorted((*finished, *kept.values()), key=LAYOUT.unit_of_item) if kept else finished
                    every = publication.all_items(listed)
                    hooks.control.check()
                    more = production.conclude(publication.root, publication.file_of, every)
                    watcher.conclude(every)
                    collection, catalog = production.describe(every)
                    write_catalog(publication.root, collection=with_assets(collection, more), catalog=catalog)
            tell(Event("end", blocks_done=outcome.blocks, blocks_total=outcome.blocks, message="complete"))
        output = publication.out
        if is_published:
            publication.discard()
        else:
            publication.commit()
    failures = tuple(outcome.failures)
    seconds_of = [times.seconds.get(LAYOUT.unit_of_item(item)) for item in finished]
    told = tuple(
        UnitSummary.of(item, took, production.figures) for item, took in zip(finished, seconds_of, strict=True)
    )
    return Run(plan.application, output, tuple(finished), plan.empty, failures, seconds, plan.odd_items, told)


def _with_sources_of(kept: Mapping[str, dict[str, Any]], items: ItemSet, earlier: Path) -> ItemSet:
    """Return the items of a run, and those of a file that are sources of units that it kept."""
    from eoap_dask.items.itemset import ItemSet

    if not earlier.is_file():
        return items
    used = {link["href"] for item in kept.values() for link in item["links"] if link["rel"] == "derived_from"}
    used |= {source for item in kept.values() for source in item["properties"].get("eoap:derived_from", ())}
    try:
        held = ItemSet.load(earlier)
        features = tuple(item for item in held.features if source_href(item) in used)
        # its catalogue counts as searched, which it was: how its hrefs are signed is kept by that
        both = items.merged(replace(held, features=features, from_file=False))
    except EoapError as exc:
        logger.warning("{} will hold the items of this run alone: {}", ITEMS_FILE, exc)
        return items
    return replace(both, truncated=items.truncated, missing=items.missing)


def _tell_changed(tell: EventFile, kind: Literal["paused", "resumed"]) -> None:
    latest = tell.latest
    done, total = (latest.blocks_done, latest.blocks_total) if latest else (0, 0)
    logger.info("{}", "Paused: what is under way is finished." if kind == "paused" else "Going on.")
    tell(Event(kind, blocks_done=done, blocks_total=total))


@contextmanager
def _watched(watcher: Watcher, root: Path) -> Iterator[None]:
    watcher.begin(root)
    try:
        yield
    finally:
        watcher.close()


@contextmanager
def _end_told(tell: EventFile) -> Iterator[None]:
    """End the event stream with what stopped the run."""
    try:
        yield
    except BaseException as exc:
        what = exc.what if isinstance(exc, EoapError) else type(exc).__name__
        latest = tell.latest
        done, total = (latest.blocks_done, latest.blocks_total) if latest else (0, 0)
        with suppress(OSError):  # a full disk isn't to hide what stopped us
            tell(Event("end", blocks_done=done, blocks_total=total, message=what))
        raise


def _refuse_failed(
    production: Production,
    schedule: Schedule,
    options: RunOptions,
    outcome: Outcome,
    publication: Publisher,
    kept: Mapping[str, dict[str, Any]],
    seconds: float,
) -> None:
    """Write the ledger and the account of a run, and raise when more failed than may be missing."""
    for key in blank(outcome):
        logger.warning("{} is empty: not one pixel was seen clearly.", key)
    for sentence in few_seen([outcome.items[key] for key in schedule.keys if key in outcome.items]):
        logger.warning("{}", sentence)
    write_json(publication.root / LEDGER, ledger(production.plan, outcome, schedule))
    write_json(
        publication.root / "run.json", account(production.plan, production.items, schedule, outcome, kept, seconds)
    )
    lost: set[str] = set()
    if not publication.keeps_others:  # an update never drops what is there
        lost = set(outcome.failed) & set(product_units(publication.out))
    if len(outcome.failed) <= options.max_failures and outcome.items and not lost:
        return
    if not outcome.failed:
        if kept or publication.all_items(()):
            return  # there are others, of earlier runs
        raise NothingFoundError("No unit came to be made.", "Expected at least one.")
    if len(outcome.unseen) == len(schedule.keys):
        raise next(iter(outcome.unseen.values()))  # nothing failed: there was nothing to be found
    publication.keep_partial = True
    raise too_many(outcome, len(schedule.keys), publication.ledger, plan=production.plan, options=options)


def _with_needs(plan: Plan, keys: Sequence[str]) -> set[str]:
    """Return units, and those that they need."""
    needs = {one.unit.key: one.unit.needs for one in plan.units}
    found, left = set[str](), list(keys)
    while left:
        key = left.pop()
        if key not in found:
            found.add(key)
            left += needs.get(key, ())
    return found


def _refuse_left(
    production: Production,
    schedule: Schedule,
    options: RunOptions,
    outcome: Outcome,
    publication: Publisher,
    kept: Mapping[str, dict[str, Any]],
) -> None:
    """Raise where a retry leaves units that aren't there, unless what was tried again failed: that is told first."""
    left = [key for key in schedule.left if key not in kept]
    if not left or len(outcome.failed) > options.max_failures:
        return
    publication.keep_partial = True
    write_json(publication.root / LEDGER, ledger(production.plan, outcome, schedule))
    raise StoppedError(
        f"{plural(len(left), 'unit')} of {options.output_dir} {'is' if len(left) == 1 else 'are'} not made yet: "
        f"{few(left, 3)}.",
        "A retry makes those that failed, and no others.",
        "Run the same command without it to make the rest.",
    )


def plan_states(plan: Plan, options: RunOptions) -> dict[str, UnitState]:
    """Return what a run would do with each unit (new, skip or recompute) and why; write nothing.

    Raises `OutputError` for an output of something else or a full disk, `UsageError` if units would be dropped, or
    replaced unasked.
    """
    _others(plan, Earlier(plan, options, Publication))
    holdings = Holdings(options.output_dir, plan.application)
    states: dict[str, UnitState] = {}
    contents: dict[str, str] = {}
    for one in plan.units:  # in an order in which what a unit needs comes before it
        if any(states[key].kind != "skip" for key in one.unit.needs):
            state, _ = holdings.state(one.unit.key, "", None)
            anew = UnitState("recompute", "what it needs is made anew")
            states[one.unit.key] = state if state.kind == "new" else anew
            continue
        planned = one.with_needs(contents) if one.unit.needs else one
        state, item = holdings.state(one.unit.key, planned.digest, planned.parts)
        states[one.unit.key] = state
        if item is not None:
            contents[one.unit.key] = content_of(item)
    if not options.resume:
        anew = UnitState("recompute", "asked to begin anew")
        states = {key: state if state.kind == "new" else anew for key, state in states.items()}
    check_disk(plan.only([key for key, state in states.items() if state.kind != "skip"]), options.output_dir)
    return states


def _carry_out(
    production: Production,
    schedule: Schedule,
    options: RunOptions,
    publication: Publisher,
    hooks: Hooks,
    tell: EventFile,
    client: Client | None,
) -> Outcome:
    """Make what isn't finished yet; finished units are taken over."""
    plan = production.plan
    if production.units is None:
        schedule.look_ahead()
    elif (first := schedule.next()) is not None:
        schedule.put_back(first)
    rest = plan.only([u.unit.key for u in schedule.waiting])
    todo = f"{rest.headline} to do" if production.units is None else "Units come as the run goes on"
    again = f", {len(schedule.kept)} finished before" if schedule.kept else ""
    tell(Event("todo", blocks_total=schedule.blocks, message=("Nothing to do" if schedule.is_over else todo) + again))
    outcome = Outcome()
    if not schedule.is_over:
        check_disk(rest, publication.out)
        with open_client(options, plan.size, client, publication.scratch) as active:
            size = size_of(active)
            count = len(plan.units) or 1
            schedule.resize(lambda units: sized(units, size, options, count))
            check_memory(rest.sized(size, options))
            with _evidence(active, options, publication.root / "logs") as kept_if_bad, ExitStack() as meanwhile:
                shared = publication.scratch if workers_write(options, active) else None
                logger.info("Tiles are put onto the output's disk by {}", "the client" if shared is None else "workers")
                engine = Engine(
                    *(schedule, active, publication, production.finish, tell, options.max_bad_scenes),
                    patience_s=options.cluster_timeout,
                    slots=size.slots,
                    check_workers=_worker_check(active, options, meanwhile, shared, plan),
                    workers_write=shared is not None,
                    control=hooks.control,
                    on_unit=hooks.unit_done,
                    on_failure=hooks.unit_failed,
                    give_up_after=None if production.units is None else options.max_failures,
                )
                try:
                    outcome = engine.run()
                except BaseException:
                    if engine.outcome.failures:
                        with suppress(OSError):  # a full disk isn't to hide what stopped us
                            write_json(publication.root / LEDGER, ledger(plan, engine.outcome, schedule))
                    raise
                kept_if_bad.is_wanted = bool(outcome.failures)
    outcome.items.update(schedule.kept)
    if hooks.control.is_draining and not schedule.is_over:
        raise hooks.control.fault()
    return outcome


@contextmanager
def _evidence(client: Client, options: RunOptions, directory: Path) -> Iterator[Evidence]:
    """Collect logs of a cluster elsewhere if the run fails, and a performance report when asked for.

    An embedded cluster knows nothing that isn't in our own log.
    """
    with ExitStack() as stack:
        if options.performance_report is not None:
            stack.enter_context(performance_report(client, options.performance_report))
        if is_embedded(client):
            yield Evidence(is_wanted=False)
        else:
            yield stack.enter_context(evidence(client, directory))


def _worker_check(
    client: Client, options: RunOptions, meanwhile: ExitStack, shared: Path | None, plan: Plan
) -> Callable[[], None]:
    """Return what to do when workers have joined, the first ones included; `shared` is where they write."""
    from eoap_dask.cluster.profiler import without_dangerous_profiler

    first = True

    def check_workers() -> None:
        nonlocal first
        if not is_embedded(client):  # those are of our own making
            check_versions(client, options.allow_version_mismatch, plan.modules)
            if shared is not None:
                check_shared(client, shared)
        if first:  # not before: workers without our software can't even be told
            meanwhile.enter_context(without_dangerous_profiler(client))
        for check in {u.work.worker_check for u in plan.units} - {None}:
            kinds = sorted(set(client.run(check).values()))
            if len(kinds) > 1:
                logger.warning("Workers compute with {}: the last digits depend on which made what.", few(kinds))
        first = False

    return check_workers


def _take_over(
    planned: UnitPlan,
    options: RunOptions,
    publication: Publisher,
    earlier: Earlier,
    hooks: Hooks,
    tell: EventFile,
    blocks: int,
) -> dict[str, Any] | None:
    """Take over a unit that is finished already, with what its item says of dates brought up to date."""
    unit = planned.unit
    if not options.resume:
        return None
    hooks.control.check()
    latest = tell.latest
    if tell.has_begun and latest is not None:  # one that comes later, when the run has its own numbers
        checked, blocks, step = latest.blocks_done, latest.blocks_total, 0
    else:
        is_check = latest is not None and latest.kind in {"unit-checking", "unit-skipped"}
        checked, step = latest.blocks_done if latest is not None and is_check else 0, planned.work.tasks
    if publication.holds(unit.key):  # its checksums may take a while
        tell(Event("unit-checking", unit.key, checked, blocks))
    unfinished = record_of(publication.root / LAYOUT.folder(unit.key), unit.key)
    item = publication.adopt(unit.key, planned.digest)
    if item is None:
        if why := earlier.why_anew(planned, unfinished):
            logger.info("{} is made anew: {}.", unit.key, why)
        return None
    if len(item["properties"].get(LEFT_OUT, ())) > options.max_bad_scenes:
        publication.forget(unit.key)  # made when more was allowed to be missing
        return None
    renewed = with_period(item, unit.title, unit.start, unit.end)
    if renewed != item:
        publication.renew(renewed)
    tell(Event("unit-skipped", unit.key, checked + step, blocks))
    hooks.unit_done(renewed)
    return renewed


def _earlier(production: Production, options: RunOptions, publisher: type[Publisher]) -> Earlier:
    return Earlier(production.plan, options, publisher, is_stream=production.units is not None)


def _others(plan: Plan, earlier: Earlier) -> tuple[str, ...]:
    """Return the units that stay beside those of a plan; raise `UsageError` for what isn't done unasked."""
    if earlier.is_stream:
        earlier.refuse_other()
        return ()
    for one in plan.units:
        earlier.meet(one)
    return earlier.others([u.unit.key for u in plan.units])


def _leave_out(keys: Sequence[str], publication: Publisher, earlier: Earlier) -> None:
    """Remove what an interrupted run finished of units that aren't asked for, and say so."""
    if gone := left_out(records_in(publication.root), keys, earlier):
        logger.warning("An interrupted run had finished {}, which this one doesn't make: removed.", ", ".join(gone))
    publication.keep_only(keys)


def apply_changes(params: P, options: RunOptions, changes: Mapping[str, Any]) -> tuple[P, RunOptions]:
    """Return parameters and options with some fields changed, as Python callers name them; `UsageError` for others."""
    own = {f.name: f for f in dataclasses.fields(params)}  # type: ignore[arg-type]
    running = {f.name for f in dataclasses.fields(RunOptions)}
    unknown = sorted(set(changes) - set(own) - running)
    if unknown:
        raise UsageError(
            f"There is no parameter {unknown[0]!r}.", f"Expected one of {', '.join(sorted({*own, *running}))}."
        )
    mine = {k: v for k, v in changes.items() if k in own}
    theirs = {k: v for k, v in changes.items() if k in running}
    return dataclasses.replace(params, **mine), options.replace(**theirs)  # type: ignore[type-var]


def _is_published(out: Path, outcome: Outcome, kept: Mapping[str, dict[str, Any]]) -> bool:
    """Tell whether the output holds just these items already, so that there is nothing to publish."""
    if outcome.failures or outcome.blocks or sorted(product_units(out)) != sorted({*outcome.items, *kept}):
        return False
    paths = {key: out / LAYOUT.item_of(key) for key in outcome.items}
    if not all(path.is_file() for path in paths.values()):
        return False
    return all(paths[key].read_text() == dump_json(item) for key, item in outcome.items.items())
