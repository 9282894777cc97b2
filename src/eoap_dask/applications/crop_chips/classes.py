"""Which class of the masks a field's code belongs to: a table that people edit in a spreadsheet."""

from __future__ import annotations

import colorsys
import csv
import io
import math
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from eoap_dask.errors import UsageError
from eoap_dask.render.images import ClassSpec, Colour
from eoap_dask.text import nearest, option, shorten

PARAMETER = "classes"
"""Which parameter names a table, for sentences."""
_SHIPPED = "classes.csv"
_NEEDED = ("class", "name", "code")
_COLUMNS = (*_NEEDED, "original", "title", "colour")
_MOST = 254
"""The largest class: 255 may mean that a pixel is ignored."""

_BLANK = ("None", "nan", "<NA>", "NaT")
"""How values that aren't there are written."""

RESERVED = frozenset({"background", "ignored", "other"})
"""What pixels and fields are called that are of no class."""

Column = npt.NDArray[np.object_]

Code = str | int | float | None
"""As an attribute of fields holds it."""


@dataclass(frozen=True, slots=True, order=True)
class Rule:
    """A code, or the beginning of codes, with the class of fields that have it."""

    code: str
    """In lower case, without the asterisk of a prefix."""
    is_prefix: bool
    original: str
    """What the field's original name must contain, in lower case; empty where it doesn't matter."""
    value: int
    """Of the class; 0 for none."""


@dataclass(frozen=True)
class ClassTable:
    """Classes, and the codes that belong to them.

    An exact code beats any prefix, and a longer prefix a shorter one; of equals, a row that names a fitting original
    beats one that doesn't. Neither case nor surrounding blanks matter.
    """

    classes: tuple[ClassSpec, ...]
    """In the order of their values."""
    rules: tuple[Rule, ...]
    """Sorted: the order of rows never matters."""

    @classmethod
    def of(cls, path: str | os.PathLike[str] | None = None) -> ClassTable:
        """Return the table of a CSV file, or the one that is shipped; `UsageError` for what isn't a table of classes.

        Parameters
        ----------
        path
            A file with one row per code: its `class` (1 to 254), the `name` of the class and the `code`, where a final
            ``*`` stands for any rest. Class 0 takes codes out of all classes. `original` is a text that the original
            name must contain for the row to count. `title` and `colour` (#RRGGBB) of a class stand in any one of its
            rows. Other columns don't matter. It is separated by commas, semicolons or tabs, in UTF-8.
        """
        if path is None:
            text = resources.files(__package__).joinpath(_SHIPPED).read_text("utf-8")
            return _table(text, _SHIPPED)
        shown = repr(shorten(str(path), 80))
        try:
            return _table(Path(path).expanduser().read_text("utf-8-sig"), shown)
        except (FileNotFoundError, NotADirectoryError):
            raise UsageError(
                f"There is no file {shown}.", "A path must exist on this machine.", f"Check {option(PARAMETER)}."
            ) from None
        except UnicodeDecodeError:
            raise UsageError(
                f"The table {shown} isn't text in UTF-8.",
                "Expected a CSV file.",
                "Save it from the spreadsheet as CSV UTF-8.",
            ) from None
        except (OSError, ValueError, RuntimeError) as fault:  # a null byte in the path, an unknown ~user
            raise UsageError(
                f"The table {shown} can't be read: {getattr(fault, 'strerror', None) or fault}.",
                "Expected a CSV file.",
                f"Check {option(PARAMETER)}.",
            ) from None

    def values(
        self, codes: Sequence[Code] | Column, originals: Sequence[str] | Column | None = None
    ) -> npt.NDArray[np.uint8]:
        """Return the class of each code, 0 for those of no class.

        Parameters
        ----------
        codes
            Of fields: text, or numbers (3301010101.0 is the code 3301010101); blank, None or NaN for none.
        originals
            Original names of the same fields. Without them, rows that ask for an original don't count.
        """
        return np.maximum(self._found(codes, originals), 0).astype(np.uint8)

    def is_listed(
        self, codes: Sequence[Code] | Column, originals: Sequence[str] | Column | None = None
    ) -> npt.NDArray[np.bool_]:
        """Tell of each code, as in `values`, whether any row is about it, perhaps one of class 0."""
        listed: npt.NDArray[np.bool_] = self._found(codes, originals) >= 0
        return listed

    def _found(self, codes: Any, originals: Any) -> npt.NDArray[np.int16]:
        """Return the class of each code, -1 for those that no row is about."""
        rules: dict[tuple[str, bool], list[Rule]] = defaultdict(list)
        for rule in sorted(self.rules, key=lambda one: (-len(one.original), one)):
            rules[rule.code, rule.is_prefix].append(rule)
        keys = _plain(codes)
        if originals is None or not any(rule.original for rule in self.rules):
            found = _Memory(lambda code: _found(rules, code))
            return np.fromiter(map(found.__getitem__, keys), np.int16, len(keys))
        found = _Memory(lambda pair: _found(rules, *pair))
        pairs = zip(keys, _plain(originals), strict=True)
        return np.fromiter(map(found.__getitem__, pairs), np.int16, len(keys))


class _Memory(dict[Any, int]):
    """What a function returned for each argument: many fields share few codes."""

    def __init__(self, function: Callable[[Any], int]) -> None:
        super().__init__()
        self._function = function

    def __missing__(self, key: Any) -> int:
        value = self._function(key)
        if not (isinstance(key, float) and math.isnan(key)):  # each would be kept anew
            self[key] = value
        return value


def _plain(values: Any) -> Sequence[Any]:
    return values.tolist() if hasattr(values, "tolist") else values  # type: ignore[no-any-return]


def _found(rules: dict[tuple[str, bool], list[Rule]], code: Code, original: str | None = None) -> int:
    text = _code(code)
    if not text:
        return -1
    said = _folded(original) if isinstance(original, str) else ""
    for key in ((text, False), *((text[:length], True) for length in range(len(text), -1, -1))):
        for rule in rules.get(key, ()):
            if rule.original in said:
                return rule.value
    return -1


def _code(value: Any) -> str:
    """Return a code as rules have it; empty for none."""
    text = str(value)
    if not isinstance(value, str) and text in _BLANK:
        return ""
    return re.sub(r"^(\d+)\.0+$", r"\1", _folded(text))


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())


# ----------------------------------------------------------------------------------------------------
# Reading a table


@dataclass(frozen=True)
class _Row:
    """A row of a table that isn't blank."""

    line: int
    cells: dict[str, str]
    shown: str
    """Which table, for sentences."""

    def fault(self, what: str, expected: str, hint: str) -> UsageError:
        return UsageError(f"Line {self.line} of the table {self.shown} {what}.", expected, hint)

    @property
    def value(self) -> int:
        text = self.cells["class"]
        if not re.fullmatch(r"[0-9]{1,3}", text) or int(text) > _MOST:
            raise self.fault(
                f"has the class {text!r}",
                f"A class is a whole number from 1 to {_MOST}, or 0 for codes of no class.",
                "Correct it.",
            )
        return int(text)

    def rule(self) -> Rule:
        code = self.cells["code"]
        if not code:
            raise self.fault("has no code", "Each row has one code, or a prefix such as 330305*.", "Fill it in.")
        if re.fullmatch(r"\d([.,]\d+)?[Ee]\+\d+", code):
            raise self.fault(
                f"has the code {code!r}, which a spreadsheet has rounded",
                "Expected all digits.",
                "Format the column as text before saving.",
            )
        begin = code.removesuffix("*")
        if "*" in begin:
            raise self.fault(
                f"has the code {code!r}", "An asterisk stands at the end of a code.", "Write one row per prefix."
            )
        return Rule(_code(begin), code.endswith("*"), _folded(self.cells["original"]), self.value)

    def name(self) -> str:
        name = self.cells["name"]
        if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
            slug = re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_")
            raise self.fault(
                f"has the name {name!r}",
                "A name of a class has letters from a to z, digits, - and _; its title may be any text.",
                f"Try {slug or 'crop'}.",
            )
        if name.casefold() in RESERVED:
            raise self.fault(f"has the name {name!r}", "Chips call other pixels by that name.", "Choose another one.")
        return name

    def colour(self) -> Colour:
        text = self.cells["colour"]
        if not re.fullmatch(r"#[0-9A-Fa-f]{6}", text):
            raise self.fault(f"has the colour {text!r}", "A colour is written as #RRGGBB.", "Try #E69F00.")
        red, green, blue = bytes.fromhex(text[1:])
        return red, green, blue


def _table(text: str, shown: str) -> ClassTable:
    rows = list(_rows(text, shown))
    groups: dict[int, list[_Row]] = defaultdict(list)
    for row in rows:
        groups[row.value].append(row)
    rules = _rules(rows)
    for row in groups.pop(0, ()):
        if row.cells["name"]:
            raise row.fault(
                f"names class 0 {row.cells['name']!r}", "Class 0 takes a code out of all classes.", "Leave name empty."
            )
    if not groups:
        raise UsageError(
            f"The table {shown} has no class.", "Expected one row per code of a class.", "Try 1,wheat,33010101*."
        )
    classes = tuple(_class(value, groups[value]) for value in sorted(groups))
    names: dict[str, int] = {}
    for one in classes:
        if one.name in names:
            raise UsageError(
                f"The table {shown} names both class {names[one.name]} and class {one.value} {one.name!r}.",
                "Each class has a name of its own.",
                "Rename one, or give both the same class.",
            )
        names[one.name] = one.value
    return ClassTable(classes, tuple(sorted(rules)))


def _rows(text: str, shown: str) -> Iterator[_Row]:
    header = next((line for line in text.splitlines() if line.strip()), "")
    separator = max(",;\t", key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        names = [name.strip().casefold() for name in next((row for row in reader if any(row)), [])]
        if missing := [name for name in _NEEDED if name not in names]:
            raise _without(missing, names, shown)
        for found in reader:
            cells = [cell.strip() for cell in found]
            if any(cells):
                row = _Row(reader.line_num, dict.fromkeys(_COLUMNS, "") | dict(zip(names, cells, strict=False)), shown)
                if any(cells[len(names) :]):
                    raise row.fault(
                        f"has {len(cells)} cells", f"The header has {len(names)}.", "Put texts with commas in quotes."
                    )
                yield row
    except csv.Error as fault:
        raise UsageError(
            f"The table {shown} isn't CSV: {fault}.", "Expected a CSV file.", "Save it from the spreadsheet as CSV."
        ) from None


def _without(missing: list[str], names: list[str], shown: str) -> UsageError:
    like = nearest(missing[0], [name for name in names if name not in _COLUMNS])
    return UsageError(
        f"The table {shown} has no column {missing[0]!r}.",
        "Expected class, name and code, and perhaps original, title and colour.",
        f"Rename {like!r}." if like else f"Its columns are {shorten(', '.join(filter(None, names)), 120) or 'none'}.",
    )


def _rules(rows: list[_Row]) -> list[Rule]:
    """Return the rule of each row; the same code must not stand twice."""
    lines: dict[tuple[str, bool, str], int] = {}
    found = []
    for row in rows:
        rule = row.rule()
        key = (rule.code, rule.is_prefix, rule.original)
        if key in lines:
            raise UsageError(
                f"The code {row.cells['code']!r} stands in lines {lines[key]} and {row.line} of the table {row.shown}.",
                "Each code belongs to one class.",
                "Remove one of them.",
            )
        lines[key] = row.line
        found.append(rule)
    return found


def _class(value: int, rows: list[_Row]) -> ClassSpec:
    """Return the class that some rows tell of, which must not contradict each other."""
    told: dict[str, _Row] = {}
    for column in ("name", "title", "colour"):
        for row in rows:
            if not row.cells[column]:
                continue
            first = told.setdefault(column, row)
            if first.cells[column].casefold() != row.cells[column].casefold():
                raise row.fault(
                    f"has the {column} {row.cells[column]!r} for class {value}, line {first.line} "
                    f"{first.cells[column]!r}",
                    f"A class has one {column}.",
                    "Correct one of them.",
                )
    if "name" not in told:
        raise rows[0].fault(f"has no name for class {value}", "Each class has a name.", "Fill it in.")
    name = told["name"].name()
    title = told["title"].cells["title"] if "title" in told else name.replace("_", " ").capitalize()
    return ClassSpec(value, name, title, colour=told["colour"].colour() if "colour" in told else _some_colour(value))


def _some_colour(value: int) -> Colour:
    """Return a colour that isn't near those of the values next to it: hues in golden sections."""
    red, green, blue = colorsys.hsv_to_rgb(value * 0.618 % 1, 0.5 + value % 2 / 2, 0.95 - value % 3 / 4)
    return round(red * 255), round(green * 255), round(blue * 255)
