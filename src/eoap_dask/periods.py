"""Dates as YYYY-MM-DD, and the calendar periods that a range of days is cut into."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial

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
    """Name for people, such as `October 2020`; the days where the range cuts the period."""
    whole: date | None = None
    """First day of the period itself, where the range may cut it."""

    @property
    def first(self) -> date:
        """First day of the period itself, also where the range cuts it."""
        return self.whole or self.start

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


def _before(following: Callable[[], date]) -> date:
    """Return the day before the first one of the following period; the calendar's last where that is beyond it."""
    try:
        return following() - timedelta(days=1)
    except (OverflowError, ValueError):
        return date.max


def _months(year: int, month: int, count: int) -> tuple[date, date]:
    """Return the first and the last day of so many months from one on; the month may be below 1."""
    first, following = (divmod(12 * year + month - 1 + more, 12) for more in (0, count))
    return date(first[0], first[1] + 1, 1), _before(lambda: date(following[0], following[1] + 1, 1))


def _monthly(day: date) -> Period:
    """Return the calendar month that holds a day."""
    return Period(f"{day:%Y-%m}", *_months(day.year, day.month, 1), f"{_MONTHS[day.month - 1]} {day.year}")


def _weekly(day: date) -> Period:
    """Return the week of ISO 8601, Monday to Sunday, which belongs to the year that has its Thursday."""
    year, week, weekday = day.isocalendar()
    first = day - timedelta(days=weekday - 1)
    last = _before(lambda: first + timedelta(days=7))
    return Period(f"{year}-w{week:02d}", first, last, f"week {week} of {year}")


def _dekad(day: date) -> Period:
    """Return the days 1 to 10 or 11 to 20 of a month, or the rest of it."""
    number = min((day.day - 1) // 10, 2)
    first = day.replace(day=10 * number + 1)
    last = _monthly(day).end if number == 2 else first + timedelta(days=9)
    return Period(f"{day:%Y-%m}-d{number + 1}", first, last, _span(first, last))


def _seasonal(day: date) -> Period:
    """Return the three months from December, March, June or September; the first are of January's year."""
    number, year = day.month % 12 // 3, day.year + (day.month == 12)
    first, last = _months(year, 3 * number, 3)
    months = ("December to February", "March to May", "June to August", "September to November")
    return Period(f"{year}-{('djf', 'mam', 'jja', 'son')[number]}", first, last, f"{months[number]} {year}")


def _yearly(day: date) -> Period:
    """Return the calendar year that holds a day."""
    return Period(f"{day.year:04d}", *_months(day.year, 1, 12), f"{day.year}")


def _span(first: date, last: date) -> str:
    """Return the first and the last day for people."""
    return f"{first}" if first == last else f"{first} to {last}"


# A new kind of calendar period is one function, from a day to the whole period that holds it, and one line here.
_RULES: dict[str, Callable[[date], Period]] = {
    "monthly": _monthly,
    "weekly": _weekly,
    "dekad": _dekad,
    "seasonal": _seasonal,
    "yearly": _yearly,
}

ALL = "all"
"""One period from the first day to the last."""
PERIODS: tuple[str, ...] = (*_RULES, ALL)
"""Kinds of period that `split_periods` knows by name; beside them ``10d`` and the like."""
_DAYS = re.compile(r"([1-9]\d{0,3})d", re.ASCII)


def check_period(how: str) -> None:
    """Raise `DateError` for a kind of period that `split_periods` doesn't know."""
    if how not in PERIODS and _DAYS.fullmatch(how) is None:
        raise DateError(
            f"{option('period')} must be one of {', '.join(PERIODS)}, or a number of days such as 10d, "
            f"got {_shorten(how)!r}."
        )


def split_periods(start: date, end: date, how: str = "monthly") -> tuple[Period, ...]:
    """Cut a range of days, both ends inclusive, into periods; the first and the last are cut to the range.

    They are in order of time, without gaps.

    Parameters
    ----------
    start, end
        The first day and the last one.
    how
        One of `PERIODS`, or a number of days from the first one on, such as ``10d``.

    Raises
    ------
    DateError
        for an inverted range, or a kind of period that isn't known
    """
    check_period(how)
    if end < start:
        raise DateError(
            f"The end date {end} lies before the start date {start}.",
            "The start date must not be later than the end date.",
            f"Try {end} to {start}.",
        )
    if how == ALL:
        return (Period(f"{start}-{end}", start, end, _span(start, end)),)
    days = _DAYS.fullmatch(how)
    periods = []
    day = start
    while True:
        if days is not None:
            last = min(_before(partial(_plus, day, int(days[1]))), end)
            periods.append(Period(f"{day}", day, last, _span(day, last)))
        else:
            whole = _RULES[how](day)
            first, last = max(whole.start, start), min(whole.end, end)
            is_whole = (first, last) == (whole.start, whole.end)
            label = whole.label if is_whole else _span(first, last)
            periods.append(Period(whole.key, first, last, label, whole.start))
        if last >= end:
            return tuple(periods)
        day = last + timedelta(days=1)


def _plus(day: date, days: int) -> date:
    return day + timedelta(days=days)


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
