"""An error names the thing, the value given, the values allowed and the way out."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnistviz import MnistvizError
from mnistviz.errors import choose


def test_every_part_has_its_line() -> None:
    error = MnistvizError("unknown model", given="depp", allowed=["deep", "light"], fix="did you mean 'deep'?")
    assert str(error).splitlines() == [
        "unknown model",
        "  given:   'depp'",
        "  allowed: deep, light",
        "  fix:     did you mean 'deep'?",
    ]


def test_parts_left_out_leave_no_line() -> None:
    assert str(MnistvizError("no digit")) == "no digit"
    assert str(MnistvizError("no digit", given=0)) == "no digit\n  given:   0"
    assert str(MnistvizError("no digit", allowed="0 to 9")) == "no digit\n  allowed: 0 to 9"


def test_it_is_a_value_error_and_survives_pickling() -> None:
    error = MnistvizError("unknown model", given="depp", allowed=["deep"])
    assert isinstance(error, ValueError)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is MnistvizError
    assert str(copy) == str(error)


@given(st.dictionaries(st.text(min_size=1), st.integers(), min_size=1, max_size=5), st.text())
def test_choose_returns_the_entry_or_lists_them_all(table: dict[str, int], name: str) -> None:
    for key, value in table.items():
        assert choose("thing", key, table) == value
    if name not in table:
        with pytest.raises(MnistvizError) as caught:
            choose("thing", name, table)
        message = str(caught.value)
        assert message.startswith("unknown thing\n")
        assert repr(name) in message
        assert all(key in message for key in table)


def test_choose_suggests_the_near_miss_only() -> None:
    with pytest.raises(MnistvizError, match="did you mean 'deep'"):
        choose("model", "depp", {"deep": 1, "light": 2})
    with pytest.raises(MnistvizError, match="choose one of the models listed"):
        choose("model", "xyz", {"deep": 1, "light": 2})
