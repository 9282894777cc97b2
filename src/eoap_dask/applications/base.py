"""What all applications do alike: parameters → request → items → plan → product.

An application is a module with its own five steps, put together in one `Application`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from loguru import logger

from eoap_dask.cluster.connect import check_start, expected_size
from eoap_dask.errors import ClusterError, UsageError
from eoap_dask.geo.crs import crs_name, parse_crs
from eoap_dask.items.itemset import ItemSet
from eoap_dask.net.hrefs import named_hosts
from eoap_dask.params import as_json, scene_params
from eoap_dask.publish.checks import check_output
from eoap_dask.readers.choose import make_reader
from eoap_dask.run.account import failed_units
from eoap_dask.run.capacity import check_memory
from eoap_dask.run.notebook import default_listener
from eoap_dask.run.options import RunOptions
from eoap_dask.run.plan import Plan
from eoap_dask.run.produce import Hooks, Production, apply_changes, nothing_more, plan_states, produce
from eoap_dask.run.raster import RasterWork, finest_pixel
from eoap_dask.run.result import Run
from eoap_dask.run.summary import Figures, no_figures
from eoap_dask.run.watcher import NoWatcher, Watcher
from eoap_dask.run.written import WrittenUnit
from eoap_dask.text import option, plain, show

if TYPE_CHECKING:
    from distributed import Client

    from eoap_dask.geo.area import Area
    from eoap_dask.items.search import Search
    from eoap_dask.readers.reader import Reader
    from eoap_dask.run.events import Listener
    from eoap_dask.stac.records import AssetRecord

P = TypeVar("P")


@dataclass(frozen=True, kw_only=True)
class BaseRequest:
    """Parameters of an application, checked without contacting anything; each adds what it reads off its own."""

    params: Any
    """What was asked for."""
    area: Area | None
    """None where the items decide."""
    search: Search
    allow_hosts: tuple[str, ...] = ()
    """Hosts that the options name."""

    @property
    def private_hosts(self) -> frozenset[str]:
        """Hosts on private networks that the user named, so that catalogues may lead there."""
        return self.search.private_hosts | named_hosts(self.allow_hosts)

    @property
    def depends_on_items(self) -> bool:
        """Whether only items can tell if it can be met, as where a band has the name of an asset."""
        return False

    @property
    def json(self) -> dict[str, Any]:
        """The parameters as JSON values; an area from a file as the GeoJSON that it held."""
        return {**as_json(self.params), "aoi": None if self.area is None else self.area.json}


R = TypeVar("R", bound=BaseRequest)


@dataclass(frozen=True)
class Application(Generic[P, R]):
    """An application: its name, its parameters, and its steps."""

    name: str
    params: type[P]
    """Dataclass of what decides the product."""
    output_dir: Path
    """Where the product goes by default."""
    understand: Callable[[P], R]
    """Checks parameters without contacting anything."""
    find: Callable[[R], ItemSet]
    """Finds the items, or raises `NothingFoundError`."""
    plan: Callable[[R, ItemSet, Reader], Plan]
    """Says what will be done, for whatever cluster; reads no pixels."""
    finish: Callable[[R, WrittenUnit], dict[str, Any]]
    """Writes what else belongs to a unit, the item last."""
    describe: Callable[[R, Sequence[Mapping[str, Any]]], tuple[Mapping[str, Any], Mapping[str, Any]]]
    """Makes collection and catalog."""
    figures: Figures = no_figures
    """Gives its own figures for the summary of a unit."""
    conclude: Callable[[R, Path, Callable[[str, str], Path], Sequence[Mapping[str, Any]]], Sequence[AssetRecord]] = (
        nothing_more
    )
    """Writes the files of the product as a whole, see `Production.conclude`."""
    watch: Callable[[R, Plan, Path], Watcher] = lambda *_: NoWatcher()
    """Returns what reports on a run beside its product, see `Production.watch`."""

    def run(
        self,
        params: P | None = None,
        options: RunOptions | None = None,
        *,
        client: Client | None = None,
        listener: Listener | None = None,
        hooks: Hooks | None = None,
        changes: Mapping[str, Any] | None = None,
        only: Callable[[Plan], Collection[str]] | None = None,
    ) -> Run:
        """Make the product and publish it; `changes` are fields of parameters and options, as Python callers name them.

        `client` defaults to the active one, else as the options say; `listener` to that of `hooks`, else a bar in a
        notebook, else nothing. `only` chooses some units of the plan, with those that they need; what the output has
        beside them stays.
        """
        check_kinds(params=(params, self.params), options=(options, RunOptions), hooks=(hooks, Hooks))
        check_client(client)
        if listener is not None and not callable(listener):
            raise UsageError(f"listener must be a function, got {show(listener)}.", "", "Try listener=print.")
        default = RunOptions(output_dir=self.output_dir)
        wanted, options = apply_changes(params or self.params(), options or default, changes or {})
        check_start(options.cluster, client)
        request, items, plan = self._prepare(wanted, options, client)
        chosen = None
        if only is not None:
            chosen, options = frozenset(only(plan)), options.replace(update=True)
            options.check()
        # before any work: where signing fails, no unit could be made
        for href in _hrefs(plan)[:1]:
            items.signer(request.private_hosts).sign(href)
        hooks = replace(hooks or Hooks(), listener=listener or (hooks.listener if hooks else default_listener()))
        production = Production(
            plan,
            partial(self.finish, request),
            partial(self.describe, request),
            items,
            figures=self.figures,
            conclude=partial(self.conclude, request),
            watch=partial(self.watch, request, plan),
            only=chosen,
        )
        return produce(production, options, hooks, client=client)

    def dry_run(self, params: P, options: RunOptions, client: Client | None = None) -> Plan:
        """Search and plan; write nothing, read no pixels. Raises what `run` would raise before its first block.

        That workers as they are expected have too little memory is a warning: only a run knows what it gets.
        """
        plan = self._prepare(params, options, client)[2]
        try:
            check_memory(plan)
        except ClusterError as fault:
            logger.warning("A run would be refused: {}", fault)
        if options.retry_failed:
            failed_units(options.output_dir)
        return replace(plan, states=plan_states(plan, options))

    def check(self, params: P, *, ask: bool = True) -> None:
        """Raise what `run` would raise of the parameters; `ask` the catalogue where they alone don't tell."""
        request = self.understand(params)
        if ask and request.depends_on_items:
            self.plan_for(request, self.find(request), RunOptions())

    def plan_for(self, request: R, items: ItemSet, options: RunOptions, client: Client | None = None) -> Plan:
        """Return the plan for some items, in blocks that suit the cluster that will run it."""
        hosts = request.private_hosts
        reader = make_reader(options.reader, items.signer(hosts), options.retry(), hosts)
        plan = replace(self.plan(request, items, reader), scene_params=scene_params(self.params))
        _say_finer(plan)
        # before it is sized, a unit has the smallest blocks
        return plan.sized(expected_size(options, client, plan.blocks), options)

    def _prepare(self, params: P, options: RunOptions, client: Client | None) -> tuple[R, ItemSet, Plan]:
        options.check()
        request = replace(self.understand(params), allow_hosts=options.allow_hosts)
        check_output(options.output_dir, self.name, update=True)
        items = self.find(request)
        return request, items, self.plan_for(request, items, options, client)


def _say_finer(plan: Plan) -> None:
    """Warn of a grid that is finer than all of the data."""
    works = [u.work for u in plan.units if isinstance(u.work, RasterWork)]
    data = finest_pixel(scene for work in works for scene in work.recipe.stack.scenes)
    if data is None or not parse_crs(crs_name(works[0].geobox)).is_projected:
        return
    side = float(works[0].geobox.transform.a)
    if side < 0.99 * data:  # some catalogues round
        logger.warning(
            "{} is finer than the data, whose pixels have {:g} m: it shows no more. Try {}.",
            option("resolution", plain(side)),
            data,
            option("resolution", plain(data)),
        )


def check_kinds(**given: tuple[object, type]) -> None:
    """Raise `UsageError` for an argument that is neither None nor of its class."""
    for name, (value, kind) in given.items():
        if value is not None and not isinstance(value, kind):
            raise UsageError(
                f"{name} must be {kind.__name__}, got {show(value)}.",
                "",
                f"Try {name}={kind.__name__}(…), or give its fields by name.",
            )


def check_client(client: object) -> None:
    """Raise `UsageError` for a client that isn't one of Dask's, or is asynchronous."""
    if client is None:
        return
    from distributed import Client

    if not isinstance(client, Client) or client.asynchronous:
        raise UsageError(
            f"client must be a Client of dask.distributed, and not asynchronous, got {show(client)}.",
            "",
            "Leave it out, and a cluster of this machine is started.",
        )


def _hrefs(plan: Plan) -> list[str]:
    """Return the href of one asset of each unit that is made from scenes."""
    stacks = [u.work.recipe.stack for u in plan.units if isinstance(u.work, RasterWork)]
    return [stack.scenes[0].bands[0].href for stack in stacks if stack.scenes]
