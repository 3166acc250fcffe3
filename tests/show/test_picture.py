"""A picture carries its alt text everywhere, is the same bytes every time, and touches nobody's settings."""

import ast
import io
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import mnistviz
import mnistviz as mv
from mnistviz.show.colours import curve
from mnistviz.show.picture import Picture, bare, names_down, page, percent, shares_on, styled


@styled
def example() -> Picture:
    picture, axes = page(3, 2)
    axes.plot([0, 1], [0, 1])
    axes.set_title("rising ✓")
    picture.caption("From 0 to 1.")
    picture.alt = "A rising line."
    return picture


def png(picture: Picture, path: Path) -> Image.Image:
    return Image.open(io.BytesIO(picture.save(path).read_bytes()))


def test_a_picture_is_unknown_to_pyplot() -> None:
    mine = plt.figure()
    try:
        before = plt.get_fignums()
        example()._png()
        assert plt.get_fignums() == before == [mine.number]
        assert plt.gcf() is mine
    finally:
        plt.close(mine)


def test_nothing_in_the_library_imports_pyplot() -> None:
    for path in Path(mnistviz.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            module = getattr(node, "module", None) or ""
            assert not any("pyplot" in f"{module}.{name}" or "pylab" in name for name in names), path.name


def test_the_house_style_is_used_and_given_back_after_an_error_too() -> None:
    before = dict(mpl.rcParams)

    @styled
    def fails() -> Picture:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()
    picture = example()
    assert dict(mpl.rcParams) == before
    assert picture.axes[0].title.get_text() == ""  # titles stand on the left
    assert picture.axes[0].get_title(loc="left") == "rising ✓"
    assert not picture.axes[0].spines["top"].get_visible()


@settings(max_examples=15, deadline=None)
@given(st.text(st.characters(codec="utf-8", exclude_characters="\0", exclude_categories=["Cs", "Cc"]), max_size=60))
def test_the_alt_text_is_inside_the_file(alt: str) -> None:
    picture, _ = page(0.5, 0.5)
    picture.alt = alt
    assert Image.open(io.BytesIO(picture._png())).text["Description"] == alt


def test_equal_pictures_are_equal_bytes(tmp_path: Path) -> None:
    one, two = example().save(tmp_path / "one.png"), example().save(tmp_path / "two.png")
    again = example()
    again.save(tmp_path / "first.png")
    assert one.read_bytes() == two.read_bytes() == again.save(tmp_path / "second.png").read_bytes()
    assert set(Image.open(one).info) == {"Description", "dpi"}  # no version, no date


def test_the_page_looks_the_same_whatever_the_readers_settings_are_when_it_is_drawn() -> None:
    plain = example()._png()
    picture = example()
    with mpl.rc_context({"xtick.labelcolor": "red", "grid.color": "red", "savefig.facecolor": "red", "font.size": 30}):
        assert picture._png() == plain


def test_the_size_in_pixels_is_inches_times_dpi_and_files_are_half_as_fine_again(tmp_path: Path) -> None:
    with mpl.rc_context({"figure.dpi": 60, "savefig.dpi": 300, "savefig.bbox": "standard"}):
        picture = example()
        assert png(picture, tmp_path / "a.png").size == (270, 180)
        assert Image.open(io.BytesIO(picture._png())).size == (180, 120)


def test_saving_makes_the_folder_and_returns_the_path(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "a.png"
    assert example().save(path) == path
    assert [f.name for f in path.parent.iterdir()] == ["a.png"]
    with pytest.raises(mv.MnistvizError, match="cannot write"):
        example().save(path / "b.png")


def test_a_notebook_gets_a_png_with_alt_text() -> None:
    picture = example()
    data, about = picture._repr_mimebundle_(include=None, exclude=None)
    assert data["image/png"] == picture._png()
    assert data["image/png"].startswith(b"\x89PNG")
    assert data["text/plain"] == "Picture: A rising line."
    assert about == {"image/png": {"alt": "A rising line.", "width": 216, "height": 144}}
    formatters = pytest.importorskip("IPython.core.formatters")
    assert formatters.DisplayFormatter().format(picture) == (data, about)


def test_page_hands_out_axes_and_bare_clears_one() -> None:
    picture, axes = page(4, 2, rows=2, columns=3)
    assert axes.shape == (2, 3)
    assert list(picture.get_size_inches()) == [4, 2]
    ax = bare(axes[0, 0])
    assert not len(ax.get_xticks())
    assert not len(ax.get_yticks())
    assert not any(s.get_visible() for s in ax.spines.values())
    assert np.all([s.get_visible() for s in axes[1, 1].spines.values()])


def test_lying_bars_are_named_from_the_top() -> None:
    _, axes = page(4, 2, columns=2, sharey=True)
    for ax in axes:
        ax.barh(range(3), [1, 2, 3])
    names_down(*axes)
    assert all(ax.get_ylim()[0] > ax.get_ylim()[1] for ax in axes)


SHARES = {
    1.0: ">99.9 %",
    0.9995: ">99.9 %",
    0.9994: "99.9 %",
    0.5: "50.0 %",
    0.001: "0.1 %",
    0.0009: "<0.1 %",
    0: "<0.1 %",
}


def test_a_percentage_never_rounds_a_doubt_away() -> None:
    assert {share: percent(share) for share in SHARES} == SHARES
    picture, axes = page(4, 2)
    shares_on(axes.xaxis)
    shares_on(axes.yaxis, 1)
    axes.set(xlim=(0, 1), ylim=(0, 1))
    picture.draw_without_rendering()
    assert "20%" in [t.get_text() for t in axes.get_xticklabels()]
    assert "50.0%" in [t.get_text() for t in axes.get_yticklabels()]


def test_no_two_of_twenty_curves_look_alike_and_no_two_of_five_without_colour() -> None:
    looks = [curve(k) for k in range(20)]
    assert len({tuple(look.values()) for look in looks}) == 20
    assert len({look["marker"] for look in looks[:5]}) == 5
    assert len({(look["color"], look["linestyle"]) for look in looks[:8]}) == 8
