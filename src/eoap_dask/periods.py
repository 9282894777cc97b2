"""Dates as YYYY-MM-DD, and the calendar periods that a range of days is cut into."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from eoap_dask.errors import DateError
from eoap_dask.text import option, show
from eoap_dask.values import is_a, scalar

# Launch of Sentinel-2A (https://sentiwiki.copernicus.eu/web/s2-mission): there is nothing older.
FIRST_DAY = date(2015, 6, 23)

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
# not calendar.month_name, which speaks the language of the locale: labels must not differ between machines
_MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)


@dataclass(frozen=True)
class Period:
    """A stretch of days that makes one product."""

    key: str
    """Name in ids and file names, such as `2020-10`; stays the same where the range cuts the period."""
    start: date
    """First day."""
    end: date
    """Last day, inclusive."""
    label: str
    """Name for people, such as `October 2020`."""

    def __contains__(self, day: object) -> bool:
        return isinstance(day, date) and self.start <= day <= self.end


def parse_day(value: object, name: str = "") -> date:
    """Return the day that a value means, or raise `DateError`; `name` is the parameter that gave it.

    Text is YYYY-MM-DD, and blanks around it are ignored. A time counts as the day on which it falls in UTC (without a
    zone it is in UTC): `datetime`, or a time of numpy, pandas or xarray. A period of pandas must lie within one day.
    """
    if not isinstance(value, str):
        return _day_of(value, name)
    stripped = value.strip()
    shown = _shorten(stripped)
    if not _DAY.fullmatch(stripped):
        raise DateError(
            f"{shown!r} isn't a date.",
            "Expected the form YYYY-MM-DD.",
            _hint_for(stripped) or "Try 2020-10-01.",
        )
    try:
        return date.fromisoformat(stripped)
    except ValueError:
        raise DateError(
            f"{shown!r} isn't a day of the calendar.",
            "Expected the form YYYY-MM-DD.",
            "Check the month and the day.",
        ) from None


def _day_of(value: object, name: str) -> date:
    """Return the day of anything but text."""
    plain = scalar(getattr(value, "values", None)) if is_a(value, "xarray.DataArray") else scalar(value)
    if is_a(plain, "numpy.datetime64"):
        numpy = sys.modules["numpy"]
        unit, _ = numpy.datetime_data(plain)
        if unit in "YMW":
            return parse_day(str(plain), name)  # which says what is missing
        text = str(numpy.datetime64(plain, "D"))
        if text != "NaT":
            return parse_day(text, name)
    elif is_a(plain, "pandas.Period"):
        first, last = plain.start_time.date(), plain.end_time.date()  # type: ignore[attr-defined]
        if first == last:
            return date(first.year, first.month, first.day)
    elif isinstance(plain, datetime):
        try:
            if isinstance(plain.year, int):  # the year of pandas' NaT is NaN
                return (plain.astimezone(UTC) if plain.tzinfo else plain).date()
        except (OverflowError, ValueError):
            pass
    elif isinstance(plain, date):
        return plain
    raise DateError(
        f"{option(name) if name else 'A date'} must be a day, got {show(value)}.",
        "Expected the form YYYY-MM-DD, a date, or a time.",
        f"Try {option(name, '2020-10-01') if name else '2020-10-01'}.",
    )


def day_text(value: object, name: str) -> str:
    """Return a day as YYYY-MM-DD, where it isn't text already; see `parse_day`."""
    return str(value) if isinstance(value, str) else parse_day(value, name).isoformat()


def check_range(start: date, end: date, today: date | None = None) -> None:
    """Raise `DateError` for an inverted range, one in the future, or one before `FIRST_DAY`; both ends are inclusive.

    `today` is by default the later of the local day and the day in UTC.
    """
    if today is None:
        now = datetime.now(UTC)
        today = max(now.date(), now.astimezone().date())
    if end < start:
        raise DateError(
            f"The end date {end} lies before the start date {start}.",
            "The start date must not be later than the end date.",
            f"Try {end} to {start}.",
        )
    if start > today:
        raise DateError(
            f"The start date {start} lies in the future.",
            f"Today is {today}.",
            "Try an earlier range of dates.",
        )
    if end > today:
        raise DateError(
            f"The end date {end} lies in the future.",
            f"Today is {today}.",
            f"Try an end date of {today}.",
        )
    if end < FIRST_DAY:
        raise DateError(
            f"The end date {end} lies before the launch of Sentinel-2A.",
            f"The first scenes are from {FIRST_DAY} or later.",
            "Try a later range of dates.",
        )


def _monthly(day: date) -> Period:
    """Return the calendar month that holds a day."""
    first = day.replace(day=1)
    following = (first + timedelta(days=31)).replace(day=1) if (first.year, first.month) != (9999, 12) else None
    last = following - timedelta(days=1) if following else date.max
    return Period(f"{first:%Y-%m}", first, last, f"{_MONTHS[first.month - 1]} {first.year}")


# A new kind of period is one function, from a day to the whole period that holds it, and one line here.
_RULES: dict[str, Callable[[date], Period]] = {"monthly": _monthly}

PERIODS: tuple[str, ...] = tuple(_RULES)
"""Kinds of period that `split_periods` knows."""


def split_periods(start: date, end: date, how: str = "monthly") -> tuple[Period, ...]:
    """Cut a range of days, both ends inclusive, into calendar periods; the first and the last are cut to the range.

    They are in order of time, without gaps. Raises `DateError` for an inverted range, or when `how` isn't in `PERIODS`.
    """
    if how not in _RULES:
        raise DateError(
            f"{option('period')} must be one of {', '.join(PERIODS)}, got {_shorten(how)!r}.",
        )
    if end < start:
        raise DateError(
            f"The end date {end} lies before the start date {start}.",
            "The start date must not be later than the end date.",
            f"Try {end} to {start}.",
        )
    rule = _RULES[how]
    periods = []
    day = start
    while True:
        whole = rule(day)
        periods.append(Period(whole.key, max(whole.start, start), min(whole.end, end), whole.label))
        if whole.end >= end:
            return tuple(periods)
        day = whole.end + timedelta(days=1)


def _hint_for(text: str) -> str:
    """Return a hint with the date that was probably meant, or an empty text."""
    if re.fullmatch(r"\d{4}-\d{2}-\d{2}[T ].*", text):
        return f"Leave out the time: try {text[:10]}."
    if re.fullmatch(r"\d{8}", text):
        return f"Try {text[:4]}-{text[4:6]}-{text[6:]}."
    if re.fullmatch(r"\d{4}/\d{2}/\d{2}", text):
        return f"Try {text.replace('/', '-')}."
    if re.fullmatch(r"\d{4}-\d{2}", text):
        return f"Add the day: try {text}-01."
    return ""


def _shorten(text: str, length: int = 60) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
