"""An error names the thing, the value given, the values allowed and the way out."""

import pickle

from helpers import refused
from hypothesis import given
from hypothesis import strategies as st

from mnistviz import MnistvizError
from mnistviz.errors import choose


def test_every_part_has_its_line_and_parts_left_out_leave_none():
    error = MnistvizError("unknown model", given="depp", allowed=["deep", "light"], fix="did you mean 'deep'?")
    lines = ["unknown model", "  given:   'depp'", "  allowed: deep, light", "  fix:     did you mean 'deep'?"]
    assert str(error).splitlines() == lines
    assert str(MnistvizError("no digit")) == "no digit"
    assert str(MnistvizError("no digit", given=0)) == "no digit\n  given:   0"
    assert str(MnistvizError("no digit", allowed="0 to 9")) == "no digit\n  allowed: 0 to 9"
    assert isinstance(error, ValueError)
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy)) == (MnistvizError, str(error))


@given(st.dictionaries(st.text(min_size=1), st.integers(), min_size=1, max_size=5), st.text())
def test_choose_returns_the_entry_or_lists_them_all(table, name):
    for key, value in table.items():
        assert choose("thing", key, table) == value
    if name not in table:
        refused(lambda: choose("thing", name, table), "unknown thing\n", repr(name), *table)


def test_choose_suggests_the_near_miss_only():
    refused(lambda: choose("model", "depp", {"deep": 1, "light": 2}), "did you mean 'deep'")
    refused(lambda: choose("model", "xyz", {"deep": 1, "light": 2}), "choose one of the models listed")
