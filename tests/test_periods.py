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
        Period("2020-10", date(2020, 10, 15), date(2020, 10, 31), "October 2020"),
        Period("2020-11", date(2020, 11, 1), date(2020, 11, 30), "November 2020"),
        Period("2020-12", date(2020, 12, 1), date(2020, 12, 2), "December 2020"),
    )


@given(days, days, st.sampled_from(PERIODS))
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
    assert split_periods(date(9999, 12, 1), date.max)[0].end == date.max


def test_split_periods_refuses():
    with pytest.raises(DateError, match=r"period must be one of monthly, got 'weekly'\."):
        split_periods(date(2020, 1, 1), date(2020, 1, 2), "weekly")
    with pytest.raises(DateError, match="lies before"):
        split_periods(date(2020, 1, 2), date(2020, 1, 1))
