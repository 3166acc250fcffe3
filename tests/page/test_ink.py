"""The page finds the ink of a picture as `read_digit` does."""

from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

import mnistviz as mv

RGBA = "new ImageData(Uint8ClampedArray.from(picture), width)"
REASON = f"(() => {{ try {{ readInk({RGBA}); }} catch (error) {{ return error.reason; }} }})()"


def drawn(k: int) -> np.ndarray:
    """The k-th of many pictures, (height, width, 4): strokes of any size on any paper, with or without alpha."""
    random = np.random.default_rng(k)
    most = 420 if k % 40 == 7 else 60 if k % 4 == 0 else 150
    width, height = (int(side) for side in random.integers(most // 5, most, 2))
    x, y = np.meshgrid(np.arange(width) / width, np.arange(height) / height)
    light, dark = random.integers(150, 256, 3), random.integers(0, 110, 3)
    paper, ink = (light, dark) if k % 3 else (dark, light)
    shade = random.uniform(-25, 25) * x + random.uniform(-25, 25) * y + random.normal(0, k % 5, (height, width))
    strokes = Image.new("L", (4 * width, 4 * height))  # drawn large, for soft edges
    room, at = random.uniform(0.1, 1), random.uniform(0, 1, 2)
    points = (at * (1 - room) + random.uniform(0, 1, (5, 2)) * room) * (4 * width, 4 * height)
    thick = max(8, int(random.uniform(0.01, 0.25) * room * 4 * min(width, height)))
    ImageDraw.Draw(strokes).line([tuple(point) for point in points], fill=255, width=thick, joint="curve")
    share = np.asarray(strokes.resize((width, height), Image.Resampling.LANCZOS))[..., None] / 255
    colours = paper * (1 - share) + ink * share + shade[..., None]
    alpha = np.full((height, width, 1), 255.0)
    if k % 7 == 0:  # the ink alone, on nothing
        colours, alpha = np.broadcast_to(ink, colours.shape), 255 * share
    elif k % 7 == 1:  # a page that fades
        alpha = alpha * random.uniform(0.6, 1) - 60 * x[..., None]
    return np.rint(np.concatenate([colours, alpha], 2).clip(0, 255)).astype(np.uint8)


@pytest.fixture(scope="module")
def tab(engine) -> Any:
    return engine(mv.models.compact())


def test_200_pictures_become_the_digits_that_read_digit_makes_of_them(tab, tmp_path):
    read, wrong = 0, []
    for k in range(220):
        picture = drawn(k)
        Image.fromarray(picture).save(tmp_path / "picture.png")
        given = {"picture": picture.ravel(), "width": picture.shape[1]}
        try:
            ours = mv.read_digit(tmp_path / "picture.png").images[0].numpy().ravel()
        except mv.MnistvizError:
            assert tab.value(REASON, **given) in ("empty", "faint")
            continue
        read += 1
        theirs = 255 * tab.numbers(f"readInk({RGBA}).pixels", **given)
        if np.abs(theirs - ours).max() > 1.001:
            wrong.append((k, float(np.abs(theirs - ours).max())))
    assert read >= 200
    assert not wrong


@pytest.mark.parametrize(("level", "size", "reason"), [(237, 40, "empty"), (220, 40, "faint"), (0, 3, "tiny")])
def test_why_nothing_can_be_read(level, size, reason, tab):
    page = np.full((80, 120, 4), 240, np.uint8)
    page[30 : 30 + size, 50 : 50 + size, :3] = level
    page[..., 3] = 255
    assert tab.value(REASON, picture=page.ravel(), width=120) == reason


def test_each_stage_is_shown(tab):
    picture = drawn(7)
    sizes = f"readInk({RGBA}).stages.map(({{name, width, height, values}}) => [name, width, height, values.length])"
    stages = {name: rest for name, *rest in tab.value(sizes, picture=picture.ravel(), width=picture.shape[1])}
    assert list(stages) == ["grey", "ink", "cut", "small", "centred"]
    assert all(width * height == count for width, height, count in stages.values())
    assert stages["grey"][:2] == [picture.shape[1], picture.shape[0]]
    assert max(stages["small"][:2]) == 20
