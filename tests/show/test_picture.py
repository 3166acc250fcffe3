"""A picture carries its alt text everywhere, is the same bytes every time, and touches nobody's settings."""

import ast
import io
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

import mnistviz as mv
from mnistviz.show.colours import curve
from mnistviz.show.picture import Picture, bare, names_down, page, percent, styled
from mnistviz.show.png import indexed


@styled
def example() -> Picture:
    picture, axes = page(6, 2)
    axes.plot([0, 1], [0, 1])
    axes.set_title("rising ✓")
    picture.caption("From 0 to 1.")
    picture.alt = "A rising line."
    return picture


def test_nothing_in_the_library_imports_pyplot():
    for path in Path(mv.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            module = getattr(node, "module", None) or ""
            assert not any("pyplot" in f"{module}.{name}" or "pylab" in name for name in names), path.name


def test_the_house_style_is_used_and_given_back_after_an_error_too():
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


def test_a_page_looks_the_same_whatever_the_readers_settings_are_and_so_do_files(tmp_path):
    plain = example()._png()
    picture = example()
    with mpl.rc_context({"xtick.labelcolor": "red", "grid.color": "red", "savefig.facecolor": "red", "font.size": 30}):
        assert picture._png() == plain
    with mpl.rc_context({"figure.dpi": 60, "savefig.dpi": 300, "savefig.bbox": "standard"}):
        picture = example()
        assert Image.open(picture.save(tmp_path / "a.png")).size == (360, 120)
        assert Image.open(io.BytesIO(picture._png())).size == (360, 120)


def test_saving_makes_the_folder_and_returns_the_path(tmp_path):
    path = tmp_path / "deep" / "er" / "a.png"
    picture = example()
    assert picture.save(path) == path
    assert [f.name for f in path.parent.iterdir()] == ["a.png"]
    assert path.read_bytes() == picture.save(tmp_path / "again.png").read_bytes() == example().save(path).read_bytes()
    assert set(Image.open(path).info) == {"Description", "dpi"}  # no version, no date
    with pytest.raises(mv.MnistvizError, match="cannot write"):
        example().save(path / "b.png")


def test_a_notebook_gets_a_png_with_alt_text_also_where_pyplot_is_in_use(monkeypatch):
    picture, shown = example(), []
    data, about = picture._repr_mimebundle_(include=None, exclude=None)
    assert data["image/png"] == picture._png()
    assert data["image/png"].startswith(b"\x89PNG")
    assert data["text/plain"] == "Picture: A rising line."
    assert about == {"image/png": {"alt": "A rising line.", "width": 432, "height": 144}}
    formatter = pytest.importorskip("IPython.core.formatters").DisplayFormatter()
    formatter.formatters["image/png"].for_type(Figure, lambda figure: b"as pyplot would have it")
    monkeypatch.setattr("IPython.display.display", lambda *what, **how: shown.append((what, how)))
    assert formatter.format(picture) == ({}, {})  # it has shown itself
    assert shown == [((data,), {"metadata": about, "raw": True})]


def test_bare_clears_one_axes_and_lying_bars_are_named_from_the_top():
    picture, axes = page(6, 2, rows=2, columns=3, sharey=True)
    assert list(picture.get_size_inches()) == [6, 2]
    first = bare(axes[0, 0])
    assert not len(first.get_xticks())
    assert not any(s.get_visible() for s in first.spines.values())
    assert np.all([s.get_visible() for s in axes[1, 1].spines.values()])
    names_down(*axes.flat)
    assert all(ax.get_ylim()[0] > ax.get_ylim()[1] for ax in axes.flat)


@pytest.mark.parametrize(("asked", "given"), [(1.5, 5), (4, 5), (5, 5), (9, 9)])
def test_a_narrow_page_leaves_room_for_words_beside_what_is_drawn(asked, given):
    picture = styled(lambda: page(asked, 2)[0])()
    assert list(picture.get_size_inches()) == [given, 2]
    assert asked - 0.2 < picture.axes[0].get_position().x1 * given < asked


def test_a_percentage_never_rounds_a_doubt_away():
    shares = [1.0, 0.9995, 0.9994, 0.5, 0.001, 0.0009, 0]
    texts = [">99.9 %", ">99.9 %", "99.9 %", "50.0 %", "0.1 %", "<0.1 %", "<0.1 %"]
    assert [percent(share) for share in shares] == texts


def test_no_two_of_twenty_curves_look_alike_and_no_two_of_five_without_colour():
    looks = [curve(k) for k in range(20)]
    assert len({tuple(look.values()) for look in looks}) == 20
    assert len({look["marker"] for look in looks[:5]}) == 5
    assert len({(look["color"], look["linestyle"]) for look in looks[:8]}) == 8


GREYS = np.arange(256, dtype=np.uint8)[:, None].repeat(3, axis=1)


def colours(count: int, seed: int = 0) -> np.ndarray:
    """So many different colours, none of them grey."""
    drawn = np.random.default_rng(seed).integers(0, 256, (2 * count, 3), np.uint8)
    drawn = np.unique(drawn[(drawn != drawn[:, :1]).any(axis=1)], axis=0)
    return np.random.default_rng(seed).permutation(drawn)[:count]


def read(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture.convert("RGB"))


@pytest.mark.parametrize("count", [1, 100, 232])
@pytest.mark.parametrize("others", [0, 20, 500])
def test_exact_colours_stay_as_they_are(count, others):
    exact = colours(count + others)[:count]
    dice = np.random.default_rng(1)
    pixels = colours(count + others)[dice.integers(0, count + others, (30, 40))]
    picture = indexed(pixels, exact)
    assert picture.mode == "P"
    assert len(picture.getpalette()) <= 3 * 256
    is_exact = (pixels[:, :, None] == exact).all(3).any(2)
    np.testing.assert_array_equal(read(picture)[is_exact], pixels[is_exact])
    if count + others <= 224:
        np.testing.assert_array_equal(read(picture), pixels)


def test_of_the_others_the_most_frequent_stay_and_each_of_the_rest_is_replaced_by_the_nearest():
    exact, others = colours(100), colours(500, seed=1)
    pixels = np.concatenate([others[:124].repeat(3, axis=0), exact.repeat(9, axis=0), others])[:, None]
    drawn = read(indexed(pixels, exact))
    np.testing.assert_array_equal(drawn[: 3 * 124], pixels[: 3 * 124])
    palette = np.unique(drawn.reshape(-1, 3), axis=0).astype(int)
    distance = ((pixels.astype(int) - palette) ** 2).sum(2)
    np.testing.assert_array_equal(((pixels.astype(int) - drawn) ** 2).sum(2)[:, 0], distance.min(1))


def test_where_there_are_too_many_only_greys_give_way():
    meaning = colours(129)
    pixels = np.concatenate([GREYS, meaning])[None]
    picture = indexed(pixels, np.concatenate([GREYS, meaning]))
    drawn = read(picture)[0]
    assert picture.mode == "P"
    np.testing.assert_array_equal(drawn[256:], meaning)
    assert ((drawn[:256].astype(int) - GREYS) ** 2).sum(1).max() <= 3 * 2**2  # half the step between 64 levels
    assert (drawn[[0, 255]] == [[0] * 3, [255] * 3]).all()
    many = colours(300)[None]  # where no colour may give way, all are kept
    np.testing.assert_array_equal(np.asarray(indexed(many, many[0])), many)
