"""What becomes of the product that there is: units stay, are made anew, or the run is refused. Reads only."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from eoap_dask.__about__ import __version__
from eoap_dask.errors import OutputError, UsageError
from eoap_dask.output.layout import LAYOUT
from eoap_dask.publish.exchange import location_of
from eoap_dask.publish.holdings import (
    RUN_FILE,
    UnitRecord,
    another_place,
    check_unit,
    product_units,
    read_object,
    record_of,
    records_in,
    resolve,
    sibling,
    what_changed,
)
from eoap_dask.publish.publisher import Publisher
from eoap_dask.run.options import RunOptions
from eoap_dask.run.plan import Plan, UnitPlan
from eoap_dask.text import option, show

_DECIDING = ("grid", "params")
"""Parts of a digest that follow from what is asked for; others are of scenes and of the software."""
_SHOWN = 3
_LONGEST = 40
"""Characters of a value that is shown as it was and as it is."""


class Earlier:
    """The product in the output directory before a run, against what the run asks for.

    All its units have the same parameters: a run that would change that is refused.
    """

    def __init__(self, plan: Plan, options: RunOptions, publisher: type[Publisher], *, is_stream: bool = False) -> None:
        self._plan, self._options = plan, options
        self.is_stream = is_stream
        """Whether units come as the run goes on: what they are made by may follow from others."""
        self._out = options.output_dir
        self._place = place = location_of(resolve(self._out))
        self._grows = publisher.keeps_others
        if self._grows:  # there may be no catalog yet
            self.keys = () if place is None else tuple(records_in(place))
        else:
            self.keys = product_units(self._out)
        account = {} if place is None else read_object(place / RUN_FILE)[0]
        self._grid, self._version = account.get("grid"), account.get("version")
        params = account.get("params")
        self._params: Mapping[str, Any] = params if isinstance(params, dict) else {}
        self._met: set[str] = set()
        """Units that are there and asked for."""
        self._parts: dict[str, str] = {}
        """What differs of one of them, and the first of which it does."""

    def record(self, key: str) -> UnitRecord | None:
        """Return what the item of a unit that is there says of it."""
        return None if self._place is None else record_of(self._place / LAYOUT.folder(key), key)

    def meet(self, planned: UnitPlan) -> None:
        """Take notice of a unit that is asked for."""
        found = self.record(planned.unit.key)
        if found is None or (found.digest != planned.digest and not set(_DECIDING) <= found.parts.keys()):
            return  # what it was made by isn't known, so that `run.json` has to say
        self._met.add(planned.unit.key)
        for name in _DECIDING:
            before, now = found.parts.get(name), planned.parts.get(name)
            if isinstance(before, str) and isinstance(now, str) and before != now:
                self._parts.setdefault(name, planned.unit.key)

    def refuse_other(self, rest: Sequence[str] = ()) -> None:
        """Raise `UsageError` where the product has other parameters, and isn't to be made with the new ones.

        `rest` are its units that the run doesn't make, as far as they are known.
        """
        if not self._options.resume or self._options.overwrite or not self._is_other(rest):
            return
        remedy = (
            f"{option('resume', False)} to make the whole output anew, without {_some(rest)}"
            if rest
            else f"{option('overwrite', True)} to make its units with these"
        )
        raise UsageError(
            f"{self._out} was made with other parameters: {self._differences()}.",
            "A product is never replaced unasked.",
            f"Try another {option('output_dir')}, or {remedy}.",
        )

    def others(self, keys: Collection[str]) -> tuple[str, ...]:
        """Return the units that stay beside those asked for, which were all met.

        Raises
        ------
        UsageError
            where the product has other parameters and isn't to be overwritten, or not as a whole; or where units would
            be dropped unasked
        """
        if not self._options.resume:
            return ()
        rest = [key for key in self.keys if key not in keys]
        self.refuse_other(rest)
        anew = f"{option('resume', False)} to make the whole output anew, without {'it' if len(rest) == 1 else 'them'}"
        if rest and self._is_other(rest):
            raise UsageError(
                f"{self._out} holds {_some(rest)}, which this run wouldn't make, with other parameters: "
                f"{self._differences()}.",
                f"{option('overwrite', True)} makes what is asked for, and a product has one set of parameters.",
                f"Try to ask for {'it' if len(rest) == 1 else 'them'} as well, another {option('output_dir')}, or "
                f"{anew}.",
            )
        if self._grows:
            return ()  # they stay where they are
        if rest and not (self._options.update or self._options.overwrite):
            raise UsageError(
                f"{self._out} holds {_some(rest)}, which this run wouldn't make.",
                "Nothing is dropped from a product unasked.",
                f"Try {option('update', True)} to add to it, another {option('output_dir')}, or {anew}.",
            )
        return tuple(rest)

    def why_anew(self, planned: UnitPlan, unfinished: UnitRecord | None) -> str:
        """Return why a unit is made anew that is there, or was finished by a run that was interrupted; or nothing."""
        found = unfinished or self.record(planned.unit.key)
        if found is None or found.digest == planned.digest:
            return ""
        return what_changed(found.parts, planned.parts)

    def _is_other(self, rest: Sequence[str]) -> bool:
        """Tell whether the product has other parameters.

        What newer software makes of the same ones is none, unless units of the older one would stay.
        """
        if self.is_stream or not self._met:
            return bool(self.keys) and bool(self._changes() or self._has_other_grid())
        return bool(self._parts) and bool(self._changes() or rest or self._version == __version__)

    def _has_other_grid(self) -> bool:
        if any(map(LAYOUT.is_shared, self.keys)):
            return False  # of cells, each has its own
        before, now = self._grid, _plain(self._plan.grid)
        return not self.is_stream and before is not None and now is not None and before != now

    def _differences(self) -> str:
        named = self._changes()
        if named:
            return "; ".join(named)
        if "params" in self._parts:
            return f"what decides the pixels of {self._parts['params']} differs, such as its bands or what it needs"
        return f"the grid of {self._parts['grid']} differs" if "grid" in self._parts else "its grid differs"

    def _changes(self) -> list[str]:
        """Return which parameters differ, in words; not those that say which scenes there are."""
        now = _plain(dict(self._plan.params))
        return [
            _change(name, self._params[name], now[name])
            for name in now
            if name in self._params and name not in self._plan.scene_params and self._params[name] != now[name]
        ]


def keep_others(keys: Iterable[str], earlier: Earlier, publication: Publisher) -> dict[str, dict[str, Any]]:
    """Take over units that aren't asked for, and return their items by key; `OutputError` for one that is damaged."""
    kept = {}
    for key in keys:
        found = earlier.record(key)
        digest = "" if found is None else found.digest
        item = publication.adopt(key, digest)
        if item is None:
            why = check_unit(publication.out / LAYOUT.folder(key), key, digest)
            raise OutputError(
                f"{publication.out} holds {key}, which can't be kept: {why if isinstance(why, str) else 'it changed'}.",
                "What isn't asked for stays as it is.",
                another_place("or ask for it as well, and it is made anew"),
            )
        kept[key] = item
    return kept


def refuse_other_retry(plan: Plan, out: Path) -> None:
    """Raise `UsageError` for a retry whose parameters aren't those of the run that failed, as far as it told them."""
    place = resolve(out)
    for folder in (sibling(place, ".partial"), location_of(place)):
        params = {} if folder is None else read_object(folder / RUN_FILE)[0].get("params")
        if not isinstance(params, dict) or not params:
            continue
        now = _plain(dict(plan.params))
        changed = [_change(name, params.get(name), now[name]) for name in now if params.get(name) != now[name]]
        if changed:
            raise UsageError(
                f"A retry needs the parameters of the run on {out}: {'; '.join(changed)}.",
                "It makes what failed, and leaves what is finished.",
                "Give the same options, or leave the retry out.",
            )
        return


def left_out(found: Mapping[str, UnitRecord], keys: Collection[str], earlier: Earlier) -> list[str]:
    """Return units finished by a run that was interrupted, which aren't asked for and aren't in the product either."""
    return [
        key
        for key, one in sorted(found.items())
        if key not in keys and not ((there := earlier.record(key)) and there.digest == one.digest)
    ]


def _some(keys: Sequence[str]) -> str:
    return f"{', '.join(keys[:_SHOWN])}{' …' if len(keys) > _SHOWN else ''}"


def _plain(value: Any) -> Any:
    """Return a value as a JSON file gives it back."""
    return json.loads(json.dumps(value))


def _change(name: str, before: Any, now: Any) -> str:
    words = [_word(value) for value in (before, now)]
    if all(words):
        return f"{option(name)} was {words[0]}, is {words[1]}"
    return f"{option(name)} differs"


def _word(value: Any) -> str:
    """Return a short value as it is read in a sentence; nothing for others."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list):
        words = [_word(one) for one in value]
        text = ", ".join(words) if all(words) else ""
    else:
        text = value if isinstance(value, str) else show(value) if isinstance(value, int | float) else ""
    return text if len(text) <= _LONGEST else ""
