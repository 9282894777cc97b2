"""The table of classes: the one that is shipped, other people's, and what isn't one."""

from __future__ import annotations

import csv
import time
from collections import Counter
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from eoap_dask.applications.crop_chips.classes import ClassTable
from eoap_dask.errors import UsageError
from eoap_dask.render.identity import hash_of, identity_of

SHIPPED = ClassTable.of()
HEADER = "class,name,code,original,title,colour\n"

TITLES = {
    1: "Olive plantations",
    2: "Vineyards",
    3: "Citrus, temperate and subtropical fruit",
    4: "Almonds, orchards, forests",
    5: "Wheat, barley, oats, triticale",
    6: "Legumes",
    7: "Vegetables",
    8: "Fallow, bare arable",
}
CEREALS = ("common_soft_wheat", "durum_hard_wheat", "barley", "oats", "triticale")
NAMES = {
    1: "olive_plantations olives_for_oil_production table_olives",
    2: "vineyards_wine_vine_rebland_grapes",
    3: "citrus_plantations avocado apples apricots cherry_cherries feijoa fig kiwi medlar_loquat nectarine pawpaw "
    "peach pears plums pomegranate quinces",
    4: "nuts almond hazelnuts_hazel pecan pistachio sweet_chestnuts walnuts orchards_fruits amelanchier_serviceberry "
    "unspecified_orchards_fruits tree_wood_forest afforestation_reforestation aspen birch dogwood_cornus eucalyptus "
    "oak populus willows_osiers unspecified_tree_wood_forest other_tree_wood_forest",
    5: " ".join(f"{when}{what}" for what in CEREALS for when in ("", "winter_", "spring_", "unspecified_season_")),
    6: "legumes_dried_pulses_protein_crops beans chickpeas esparsette_onobrychis fenugreek lentils peas sweet_lupins "
    "unspecified_legumes_dried_pulses_protein_crops other_dry_pulses",
    7: "tomato cucurbits cucumber_pickle honeydew melon pumpkin_squash_gourd watermelon zucchini_courgette potatoes "
    "fresh_vegetables asparagus brassicaceae_cruciferae brassica_oleracea_cabbage bok_choy_pak_choi broccoli "
    "brussels_sprouts cauliflower chinese_cabbage collard_greens gai_lan kale kohlrabi red_cabbage savoy_cabbage "
    "white_cabbage other_brassica_oleracea_cabbage cress horseradish swede_rutabaga alliums chives garlic leek onions "
    "scallion shallot rhubarb purslane celery celeriac leaf_celery aubergine_eggplant artichoke root_vegetables "
    "arctium_burdock beetroot_beets carrots_daucus parsnips radish turnips unspecified_root_vegetables capsicum "
    "bell_pepper_paprika chili_pepper salads_lettuce_leaf_vegetables chard chicory_chicories endive iceberg "
    "lambs_lettuce_rapunzel rocket_arugula sorrel spinach other_salads_lettuce_leaf_vegetables",
    8: "fallow_land_not_crop",
}
CLASS_OF = {name: value for value, names in NAMES.items() for name in names.split()}
"""By the names of HCAT3, written down by hand; all others are of no class."""


def table(folder: Path, text: str, encoding: str = "utf-8") -> ClassTable:
    path = folder / "classes.csv"
    path.write_bytes(text.encode(encoding))
    return ClassTable.of(str(path))


def test_the_shipped_classes() -> None:
    assert {one.value: one.title for one in SHIPPED.classes} == TITLES
    assert [one.value for one in SHIPPED.classes] == list(range(1, 9))
    assert len({one.name for one in SHIPPED.classes}) == len({one.colour for one in SHIPPED.classes}) == 8


@pytest.mark.parametrize(
    ("code", "value"),
    [
        *((3305 * 10**6, 0), (3303050000, 1), (3303050200, 1), (3303060000, 2), (3303040000, 3), (3303100000, 3)),
        *((3303010000, 4), (3303010100, 4), (3303010200, 3), (3303011500, 3), (3303011600, 4), (3303019800, 4)),
        *((3303030100, 4), (3306990000, 4), (3303020200, 0), (3303110100, 0)),
        *((3301010101, 5), (3301010200, 5), (3301010300, 0), (3301010802, 5), (3301010600, 0), (3301010700, 0)),
        *((3301011000, 0), (3301020600, 6), (3301160000, 0), (3301280000, 7), (3301289900, 0), (3301030000, 7)),
        *((3301040000, 0), (3301210000, 7), (3301210100, 0), (3301210199, 0), (3301210212, 7), (3301290000, 7)),
        *((3301290400, 0), (3301290700, 0), (3301290800, 7), (3301310800, 7), (3301060500, 0), (3302000000, 0)),
        *((3301110000, 8), (3301110100, 0), (3301000000, 0), (3399000000, 0)),
    ],
)
def test_codes_of_all_kinds(code: int, value: int) -> None:
    assert SHIPPED.values([code, float(code), str(code), f" {code}.0 "]).tolist() == [value] * 4


def test_bare_arable_land_is_told_by_the_original_name() -> None:
    codes = ["3301000000"] * 4 + ["3301110000"]
    originals = ["Bare  arable land (B)", "BARE ARABLE LAND", "Arable land", "", "whatever"]
    assert SHIPPED.values(codes, originals).tolist() == [8, 8, 0, 0, 8]
    assert SHIPPED.values(codes).tolist() == [0, 0, 0, 0, 8]


def test_every_code_of_hcat3(shared: Path) -> None:
    with (shared / "eurocrops" / "HCAT3.csv").open(encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    assert set(CLASS_OF) < {row["HCAT3_name"] for row in rows}
    found = SHIPPED.values([row["HCAT3_code"] for row in rows])
    assert {row["HCAT3_name"]: int(value) for row, value in zip(rows, found, strict=True) if value} == CLASS_OF


def test_every_row_of_spains_mapping(shared: Path) -> None:
    with (shared / "eurocrops" / "es_2023.csv").open(encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    found = SHIPPED.values([row["HCAT3_code"] for row in rows], [row["translated_name"] for row in rows])
    assert found.tolist() == [CLASS_OF.get(row["HCAT3_name"], 0) for row in rows]
    assert "3301000000" not in {row["HCAT3_code"] for row in rows}
    counts = Counter(found.tolist())
    assert counts == {0: 229, 1: 3, 2: 6, 3: 46, 4: 83, 5: 25, 6: 24, 7: 78, 8: 5}


def test_rows_that_belong_to_no_code() -> None:
    codes = [None, "", "  ", float("nan"), "nan", "x", "33030", 33, -1.5, np.nan, pd.NA]
    assert SHIPPED.values(codes).tolist() == [0] * len(codes)
    assert SHIPPED.values([]).tolist() == []


def test_arrays_are_taken() -> None:
    whole = np.array([3303050000, 3301010101, 7])
    for codes in (whole, whole.astype(float), whole.astype(str), whole.astype(object), pd.Series(whole)):
        found = SHIPPED.values(codes)
        assert found.dtype == np.uint8
        assert found.tolist() == [1, 5, 0]
    assert SHIPPED.values(np.array([np.nan, 3303050000.0])).tolist() == [0, 1]


def test_a_million_codes_take_no_second() -> None:
    codes = np.random.default_rng(0).choice(["3303050000", "3301010101", "3301040000", None], 1_000_000)
    start = time.perf_counter()
    found = SHIPPED.values(codes, np.full(1_000_000, "a name", object))
    assert time.perf_counter() - start < 3  # a third of it, on a machine that does nothing else
    assert set(found.tolist()) == {0, 1, 5}


def test_which_row_decides(tmp_path: Path) -> None:
    found = table(
        tmp_path,
        HEADER + "1,any,*\n2,crop,33*\n3,wheat,3301*\n4,exact,33010\n5,bare,33010,bare\n6,barer,33010,very bare\n"
        "7,dry,3301*,dry\n0,,3301x*\n",
    )
    codes = ["z", "33", "3301", "33019", "33010", "33010", "33010", "33010", "33019", "3301x", None]
    originals = ["", "", "", "", "", "bare", "very bare", "dry", "DRY one", "dry", ""]
    assert found.values(codes, originals).tolist() == [1, 2, 3, 3, 4, 5, 6, 4, 7, 0, 0]
    assert found.values(codes).tolist() == [1, 2, 3, 3, 4, 4, 4, 4, 3, 0, 0]


def test_names_in_place_of_codes(tmp_path: Path) -> None:
    found = table(tmp_path, "class,name,code\n1,maize,Maize\n1,maize,Green  Maize\n2,beans,beans/*\n")
    codes = ["maize", " MAIZE ", "green maize", "maize2", "Beans/peas", "beans"]
    assert found.values(codes).tolist() == [1, 1, 1, 0, 2, 0]


def test_what_a_row_leaves_out(tmp_path: Path) -> None:
    found = table(tmp_path, HEADER + "7,,1*,,,\n7,sugar_beet,2*,,,#0a0B0c\n254,x,3*,,The rest,\n")
    first, second = found.classes
    assert (first.value, first.name, first.title, first.color_hint) == (7, "sugar_beet", "Sugar beet", "0A0B0C")
    assert (second.value, second.title) == (254, "The rest")


def test_classes_without_colours_have_some(tmp_path: Path) -> None:
    found = table(tmp_path, "class,name,code\n" + "".join(f"{n},c{n},{n}\n" for n in range(1, 255)))
    assert len(found.classes) == 254
    assert len({one.colour for one in found.classes}) > 200
    for one, other in combinations(found.classes[:12], 2):
        assert one.colour is not None
        assert other.colour is not None
        assert sum(abs(a - b) for a, b in zip(one.colour, other.colour, strict=True)) > 40


ROWS = ["1,olives,330305*,Olive groves", "2,vines,330306*,Vinyes i ceps: ç"]


@pytest.mark.parametrize(
    ("separator", "end", "encoding"),
    [(",", "\n", "utf-8"), (";", "\r\n", "utf-8-sig"), ("\t", "\r", "utf-8-sig")],
)
def test_what_spreadsheets_save(separator: str, end: str, encoding: str, tmp_path: Path) -> None:
    lines = ["", "Class, Name ,CODE,title,remark", *(f"{row},of nobody" for row in ROWS), ",,,,", ""]
    found = table(tmp_path, end.join(lines).replace(",", separator), encoding)
    assert [one.title for one in found.classes] == ["Olive groves", "Vinyes i ceps: ç"]
    assert found == table(tmp_path, "class,name,code,title\n" + "\n".join(ROWS))


def test_its_identity_is_of_what_decides_pixels(tmp_path: Path) -> None:
    def digest(*rows: str) -> str:
        found = table(tmp_path, "class,name,code,title\n" + "\n".join(rows))
        assert hash(found) == hash(table(tmp_path, "class,name,code,title\n" + "\n".join(rows)))
        return hash_of(identity_of(found))

    first = digest(*ROWS)
    assert first == digest(*reversed(ROWS)) == digest(ROWS[0], "2,wine,330306*,Wine")
    assert first != digest(ROWS[0], "2,vines,330307*,")
    assert first != digest(ROWS[0], "3,vines,330306*,")
    assert hash_of(identity_of(SHIPPED)) == hash_of(identity_of(ClassTable.of()))


MEMBERS = [f"{n},c{n},{n}" for n in range(1, 255)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no column 'class'. Expected class, name and code, and perhaps original, title and colour. Its"),
        ("\n\n", "Its columns are none."),
        ("class,name,label\n", "has no column 'code'. Expected class, name and code, and perhaps original"),
        ("class,name,codes\n", "colour. Rename 'codes'."),
        ("class,name,code\n", "has no class. Expected one row per code of a class. Try 1,wheat,33010101*."),
        ("class,name,code\n,,\n0,,33*\n", "has no class."),
        (
            "class,name,code\n1.5,a,1\n",
            "Line 2 of the table {} has the class '1.5'. A class is a whole number from 1 to",
        ),
        ("class,name,code\n1,a,1\n,a,2\n", "Line 3 of the table {} has the class ''."),
        ("class,name,code\n255,a,1\n", "has the class '255'. A class is a whole number from 1 to 254, or 0 for codes"),
        ("\n".join(["class,name,code", *MEMBERS, "255,c255,255"]), "Line 256 of the table {} has the class '255'."),
        ("class,name,code\n-1,a,1\n", "has the class '-1'."),
        ("class,name,code\n1,a,1\n1,b,2\n", "Line 3 of the table {} has the name 'b' for class 1, line 2 'a'. A class"),
        ("class,name,code,title\n1,a,1,A\n1,a,2,B\n", "has the title 'B' for class 1, line 2 'A'. A class has one"),
        ("class,name,code\n1,a,1\n2,a,2\n", "names both class 1 and class 2 'a'. Each class has a name of its own."),
        ("class,name,code\n1,,1\n", "Line 2 of the table {} has no name for class 1. Each class has a name."),
        (
            "class,name,code\n1,a b!,1\n",
            "has the name 'a b!'. A name of a class has letters from a to z, digits,",
        ),
        ("class,name,code\n1,a b!,1\n", "its title may be any text. Try a_b."),
        ("class,name,code\n0,a,1\n1,b,2\n", "names class 0 'a'. Class 0 takes a code out of all classes. Leave name"),
        ("class,name,code\n1,a,33*\n2,b,33 *\n", "The code '33 *' stands in lines 2 and 3 of the table {}. Each code"),
        ("class,name,code\n1,a,33\n1,a,33.0\n", "The code '33.0' stands in lines 2 and 3 of the table {}. Each code"),
        ("class,name,code\n1,a,33\n0,,33\n", "Each code belongs to one class. Remove one of them."),
        ("class,name,code\n1,a,\n", "Line 2 of the table {} has no code. Each row has one code, or a prefix such as"),
        ("class,name,code\n1,a,3*3\n", "has the code '3*3'. An asterisk stands at the end of a code."),
        ("class,name,code\n1,a,3.30E+09\n", "has the code '3.30E+09', which a spreadsheet has rounded. Expected all"),
        ("class,name,code,colour\n1,a,1,red\n", "has the colour 'red'. A colour is written as #RRGGBB. Try #E69F00."),
        ("class,name,code,title\n1,a,1,A, B\n", "has 5 cells. The header has 4. Put texts with commas in quotes."),
        (f'class,name,code\n1,a,"{"x" * 200_000}"\n', "isn't CSV: field larger than field limit (131072). Expected a"),
    ],
)
def test_what_isnt_a_table(text: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("classes.csv").write_text(text)
    with pytest.raises(UsageError) as caught:
        ClassTable.of("classes.csv")
    fault = caught.value
    assert said.format("'classes.csv'") in str(fault)
    assert type(fault).exit_code == 2
    assert all(part.endswith(".") for part in (fault.what, fault.expected, fault.hint))


def test_files_that_cant_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("latin.csv").write_bytes("class,name,code,title\n1,a,1,Viña".encode("latin-1"))
    for path, said in (
        ("none.csv", "There is no file 'none.csv'. A path must exist on this machine. Check classes."),
        ("latin.csv/x", "There is no file 'latin.csv/x'."),
        (
            "latin.csv",
            "The table 'latin.csv' isn't text in UTF-8. Expected a CSV file. Save it from the",
        ),
        (".", "The table '.' can't be read: Is a directory. Expected a CSV file. Check classes."),
        ("a\0b", "can't be read: embedded null byte."),
        ("~nobody-of-that-name/x", "can't be read: "),
    ):
        with pytest.raises(UsageError) as caught:
            ClassTable.of(path)
        assert said in str(caught.value)


def test_codes_that_a_row_takes_out_are_listed() -> None:
    """Fodder and sugar beet are in no class by a row of the shipped table; no row is about maize."""
    codes = ["3301290400", "3301290700", "3301010601", "3303050000", None]
    assert SHIPPED.values(codes).tolist() == [0, 0, 0, 1, 0]
    assert SHIPPED.is_listed(codes).tolist() == [True, True, False, True, False]
