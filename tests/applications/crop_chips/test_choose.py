"""Which fields chips are centred on."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from eoap_dask.applications.crop_chips.choose import choose, ranks

places = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300), st.integers(1, 4)), min_size=1, max_size=40)


def chosen(fields: list[tuple[int, int, int]], order: list[int], **how: object) -> list[int]:
    xy = np.array([fields[i][:2] for i in order], float)
    values = np.array([fields[i][2] for i in order], np.uint8)
    wanted = {"most": 5, "seed": 0, "min_distance": 50.0, "stratify": False, **how}
    found = choose(np.array(order, np.int64), xy, values, **wanted)  # type: ignore[arg-type]
    return [order[index] for index in found]


@given(places, st.data(), st.booleans())
def test_the_order_of_the_fields_does_not_matter(
    fields: list[tuple[int, int, int]], data: st.DataObject, stratify: bool
) -> None:
    first = list(range(len(fields)))
    other = data.draw(st.permutations(first))
    found = chosen(fields, first, stratify=stratify)
    assert chosen(fields, other, stratify=stratify) == found
    assert 1 <= len(found) <= 5
    xy = np.array([fields[i][:2] for i in found], float)
    distances = np.hypot(*(xy[:, None] - xy[None]).transpose(2, 0, 1))
    assert (distances[~np.eye(len(found), dtype=bool)] >= 50).all()


@given(places)
def test_no_more_would_fit_where_there_are_fewer_than_wanted(fields: list[tuple[int, int, int]]) -> None:
    found = chosen(fields, list(range(len(fields))))
    if len(found) < 5:
        for x, y, _ in fields:
            assert any(np.hypot(x - fields[i][0], y - fields[i][1]) < 50 for i in found)


def test_another_seed_makes_another_choice() -> None:
    fields = [(100 * n, 0, 1) for n in range(100)]
    choices = {tuple(chosen(fields, list(range(100)), seed=seed)) for seed in range(5)}
    assert len(choices) == 5


def test_classes_come_in_turn_the_rarest_first() -> None:
    fields = [(100 * n, 0, 1) for n in range(80)] + [(100 * n, 900, 2) for n in range(3)] + [(0, 2000, 3)]
    values = [fields[i][2] for i in chosen(fields, list(range(84)), stratify=True, most=8)]
    assert values == [3, 2, 1, 2, 1, 2, 1, 1]


def test_places_that_are_taken_are_not_chosen() -> None:
    fields = [(100 * n, 0, 1) for n in range(10)]
    asked: list[int] = []

    def is_free(index: int) -> bool:
        asked.append(index)
        return index % 2 == 0

    found = chosen(fields, list(range(10)), is_free=is_free, most=10)
    assert sorted(found) == [0, 2, 4, 6, 8]
    assert sorted(asked) == list(range(10))


def test_ranks_look_random() -> None:
    """As splitmix64 is known to be; the first number of its sequence from 0 is published with it."""
    assert int(ranks(np.array([0]), 0)[0]) == 0xE220A8397B1DCDAF
    many = ranks(np.arange(100_000), 7).astype(float) / 2**64
    assert abs(many.mean() - 0.5) < 0.005
    assert abs(np.corrcoef(many[:-1], many[1:])[0, 1]) < 0.02
