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
from mnistviz.show.picture import Picture, bare, caption, mosaic, page, styled


@styled
def example() -> Picture:
    picture, axes = page(3, 2)
    axes.plot([0, 1], [0, 1])
    axes.set_title("rising ✓")
    caption(picture, "From 0 to 1.")
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


def test_the_house_style_is_used_and_given_back() -> None:
    before = dict(mpl.rcParams)
    picture = example()
    assert dict(mpl.rcParams) == before
    assert picture.axes[0].title.get_text() == ""  # titles stand on the left
    assert picture.axes[0].get_title(loc="left") == "rising ✓"
    assert not picture.axes[0].spines["top"].get_visible()


def test_the_style_is_given_back_after_an_error() -> None:
    before = dict(mpl.rcParams)

    @styled
    def fails() -> Picture:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()
    assert dict(mpl.rcParams) == before


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


def test_ipython_shows_the_png_and_keeps_the_alt_text() -> None:
    formatters = pytest.importorskip("IPython.core.formatters")
    data, about = formatters.DisplayFormatter().format(example())
    assert data["image/png"]
    assert about["image/png"]["alt"] == "A rising line."


def test_page_hands_out_axes_and_bare_clears_one() -> None:
    picture, axes = page(4, 2, rows=2, columns=3)
    assert axes.shape == (2, 3)
    assert list(picture.get_size_inches()) == [4, 2]
    ax = bare(axes[0, 0])
    assert not len(ax.get_xticks())
    assert not len(ax.get_yticks())
    assert not any(s.get_visible() for s in ax.spines.values())
    assert np.all([s.get_visible() for s in axes[1, 1].spines.values()])


@pytest.mark.parametrize("gap", [0, 3, (1, 4), (0, 2)])
@pytest.mark.parametrize("shape", [(2, 5), (4, 4, 3), (1, 1), (1, 3, 4)])
def test_a_mosaic_takes_pictures_of_any_size_grey_or_in_colour(shape: tuple, gap: int | tuple[int, int]) -> None:
    below, beside = (gap, gap) if isinstance(gap, int) else gap
    pictures = list(np.random.default_rng(0).random((5, *shape), np.float32))
    sheet = mosaic([pictures[:3], pictures[3:]], 3, gap, paper=7.0)
    assert sheet.shape == (2 * shape[0] + below, 3 * shape[1] + 2 * beside, *shape[2:])
    for i, image in enumerate(pictures):
        y, x = i // 3 * (shape[0] + below), i % 3 * (shape[1] + beside)
        cut = sheet[y : y + shape[0], x : x + shape[1]]
        np.testing.assert_array_equal(cut, image)
        cut[:] = 7
    assert (sheet == 7).all()
