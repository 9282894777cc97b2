from datetime import date, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eoap_dask.errors import DateError
from eoap_dask.periods import FIRST_DAY, PERIODS, Period, check_range, parse_day, split_periods

TODAY = date(2026, 1, 15)
days = st.dates(date(2015, 1, 1), date(2030, 12, 31))


@given(days)
def test_parse_day_reads_what_a_date_prints(day):
    assert parse_day(f" {day} ") == day


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "'' isn't a date. Expected the form YYYY-MM-DD. Try 2020-10-01."),
        ("2020-10", "Add the day: try 2020-10-01."),
        ("20201001", "Try 2020-10-01."),
        ("2020/10/01", "Try 2020-10-01."),
        ("2020-10-01T00:00:00Z", "Leave out the time: try 2020-10-01."),
        ("2020-W40-1", "isn't a date."),
        ("２０２０-10-01", "isn't a date."),
        ("2021-02-29", "'2021-02-29' isn't a day of the calendar."),
        ("x" * 500, "…"),
    ],
)
def test_parse_day_refuses(text, says):
    with pytest.raises(DateError) as caught:
        parse_day(text)
    assert says in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("start", "end", "says"),
    [
        (date(2020, 2, 1), date(2020, 1, 1), "Try 2020-01-01 to 2020-02-01."),
        (
            date(2026, 1, 16),
            date(2026, 2, 1),
            "The start date 2026-01-16 lies in the future. Today is 2026-01-15.",
        ),
        (date(2026, 1, 1), date(2026, 2, 1), "Try an end date of 2026-01-15."),
        (date(2014, 1, 1), date(2015, 6, 22), "lies before the launch of Sentinel-2A"),
    ],
)
def test_check_range_refuses(start, end, says):
    with pytest.raises(DateError) as caught:
        check_range(start, end, TODAY)
    assert says in str(caught.value)


def test_check_range_takes_what_overlaps():
    check_range(date(2014, 1, 1), FIRST_DAY, TODAY)
    check_range(TODAY, TODAY, TODAY)
    check_range(date(2020, 1, 1), date(2020, 1, 2))


def test_months_are_cut_to_the_range_and_keep_their_name():
    assert split_periods(date(2020, 10, 15), date(2020, 12, 2)) == (
        Period("2020-10", date(2020, 10, 15), date(2020, 10, 31), "2020-10-15 to 2020-10-31", date(2020, 10, 1)),
        Period("2020-11", date(2020, 11, 1), date(2020, 11, 30), "November 2020", date(2020, 11, 1)),
        Period("2020-12", date(2020, 12, 1), date(2020, 12, 2), "2020-12-01 to 2020-12-02", date(2020, 12, 1)),
    )


@pytest.mark.parametrize(
    ("how", "day", "key", "first", "last", "label"),
    [
        ("weekly", "2020-10-07", "2020-w41", "2020-10-05", "2020-10-11", "week 41 of 2020"),
        ("weekly", "2021-01-03", "2020-w53", "2020-12-28", "2021-01-03", "week 53 of 2020"),  # ISO 8601
        ("dekad", "2020-02-10", "2020-02-d1", "2020-02-01", "2020-02-10", "2020-02-01 to 2020-02-10"),
        ("dekad", "2020-02-29", "2020-02-d3", "2020-02-21", "2020-02-29", "2020-02-21 to 2020-02-29"),
        ("dekad", "2020-01-31", "2020-01-d3", "2020-01-21", "2020-01-31", "2020-01-21 to 2020-01-31"),
        ("seasonal", "2020-12-01", "2021-djf", "2020-12-01", "2021-02-28", "December to February 2021"),
        ("seasonal", "2021-02-28", "2021-djf", "2020-12-01", "2021-02-28", "December to February 2021"),
        ("seasonal", "2020-03-01", "2020-mam", "2020-03-01", "2020-05-31", "March to May 2020"),
        ("seasonal", "2020-08-31", "2020-jja", "2020-06-01", "2020-08-31", "June to August 2020"),
        ("seasonal", "2020-11-30", "2020-son", "2020-09-01", "2020-11-30", "September to November 2020"),
        ("yearly", "2020-02-29", "2020", "2020-01-01", "2020-12-31", "2020"),
    ],
)
def test_the_calendar(how, day, key, first, last, label):
    periods = split_periods(date(2018, 1, 1), date(2023, 1, 1), how)
    (found,) = [one for one in periods if date.fromisoformat(day) in one]
    assert found == Period(key, date.fromisoformat(first), date.fromisoformat(last), label, date.fromisoformat(first))
    # cut, it keeps its name and is titled by its days
    (cut,) = split_periods(date.fromisoformat(day), date.fromisoformat(day), how)
    assert (cut.key, cut.label, cut.first) == (key, day, date.fromisoformat(first))


def test_days_are_counted_from_the_first_one_and_all_is_one_period():
    found = split_periods(date(2020, 10, 5), date(2020, 10, 31), "10d")
    assert [(one.key, str(one.start), str(one.end), one.label) for one in found] == [
        ("2020-10-05", "2020-10-05", "2020-10-14", "2020-10-05 to 2020-10-14"),
        ("2020-10-15", "2020-10-15", "2020-10-24", "2020-10-15 to 2020-10-24"),
        ("2020-10-25", "2020-10-25", "2020-10-31", "2020-10-25 to 2020-10-31"),
    ]
    (whole,) = split_periods(date(2020, 10, 5), date(2021, 3, 1), "all")
    assert (whole.key, whole.label) == ("2020-10-05-2021-03-01", "2020-10-05 to 2021-03-01")
    assert [one.label for one in split_periods(date(2020, 1, 1), date(2020, 1, 2), "1d")] == [
        "2020-01-01",
        "2020-01-02",
    ]


@given(days, days, st.sampled_from([*PERIODS, "1d", "7d", "400d"]))
def test_periods_cover_the_range_without_gaps(one, other, how):
    start, end = min(one, other), max(one, other)
    periods = split_periods(start, end, how)
    assert periods[0].start == start
    assert periods[-1].end == end
    for before, after in pairwise(periods):
        assert after.start == before.end + timedelta(days=1)
    assert len({period.key for period in periods}) == len(periods)
    assert sum(one in period for period in periods) == 1


def test_the_end_of_the_calendar_is_no_trap():
    for how in (*PERIODS, "10d", "9999d"):
        assert split_periods(date(9999, 12, 1), date.max, how)[-1].end == date.max


def test_split_periods_refuses():
    for how in ("hourly", "0d", "-3d", "10", "d", "10D", "", "99999d"):
        with pytest.raises(DateError, match=rf"period must be one of monthly, .*10d, got '{how}'\."):
            split_periods(date(2020, 1, 1), date(2020, 1, 2), how)
    with pytest.raises(DateError, match="lies before"):
        split_periods(date(2020, 1, 2), date(2020, 1, 1))
