"""The slides of the lessons: nothing is lost on the way, nothing comes from a network, nothing overflows."""

import html
import re
import sys
from pathlib import Path

import nbformat
import pytest
from page import conftest

pytest.importorskip("pyreveal", reason="the slides need reveal.js: pip install 'mnistviz[slides]'")
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "docs" / "slides"))
import make  # noqa: E402
from formulas import drawn  # noqa: E402
from pages import Deck, height, packed  # noqa: E402

LESSONS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
LESSON = next(path for path in LESSONS if path.name.startswith("06"))
TYPES = {"slide", "subslide", "fragment", "skip", "notes"}
browser = conftest.browser
MEASURE = """() => {
  const slide = Reveal.getCurrentSlide(), walk = document.createTreeWalker(slide, NodeFilter.SHOW_TEXT), sizes = [];
  while (walk.nextNode()) {
    const text = walk.currentNode, parent = text.parentElement;
    if (!text.data.trim() || parent.closest("aside, svg, style, pre, code, .table")) continue;
    sizes.push(parseFloat(getComputedStyle(parent).fontSize));
  }
  return [slide.scrollWidth, slide.scrollHeight, Math.min(99, ...sizes), slide.innerText.slice(0, 60)];
}"""


@pytest.fixture(scope="module")
def decks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one deck and all that belongs to it."""
    folder = tmp_path_factory.mktemp("decks")
    make.assets(folder)
    deck, _ = make.Slides().from_notebook_node(Deck(make.lesson(LESSON, folder), LESSON.name[:2]).book)
    (folder / "deck.html").write_text(deck)
    return folder


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_every_cell_of_a_lesson_has_a_slide_type(path: Path) -> None:
    types = [cell.metadata.get("slideshow", {}).get("slide_type") for cell in nbformat.read(path, 4).cells]
    assert types[0] == "slide"
    assert set(types) <= TYPES


def test_a_deck_keeps_questions_answers_and_alt_text_and_asks_for_nothing(decks: Path) -> None:
    cells, deck = nbformat.read(LESSON, 4).cells, (decks / "deck.html").read_text()
    told = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    assert len(re.findall("<h3>Predict</h3>", deck)) == told.count("**Predict.**") > 3
    assert len(re.findall("<h3>Answer</h3>", deck)) == told.count("<summary>Answer</summary>")
    assert deck.count('<div class="formula">') == told.count("$$") / 2
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    alts = [output.metadata["image/png"]["alt"] for output in outputs if "image/png" in output.get("data", {})]
    assert [html.unescape(alt) for alt in re.findall(r'<img[^>]*? alt="([^"]*)"', deck)] == alts
    for page in (deck, (decks / "network.html").read_text()):
        for tag in re.findall(r"<(?:script|link|img|iframe)\b[^>]*>", page):
            assert not re.search(r"""(src|href)=["']?\s*(https?:|//)""", tag), tag[:200]
    assert 'data-src="network.html"' in deck


def test_a_film_plays_from_a_file_beside_the_deck(tmp_path: Path) -> None:
    outputs = [output for cell in make.lesson(LESSONS[1], tmp_path).cells for output in cell.get("outputs", [])]
    films = [output.metadata.film for output in outputs if "film" in output.get("metadata", {})]
    assert len(films) == 2
    assert all((tmp_path / film).read_bytes().startswith(b"GIF8") for film in films)


def test_blocks_are_dealt_to_pages_in_order_and_a_heading_takes_the_next_with_it() -> None:
    blocks = ["## A heading", *(f"{'word ' * 60}{i}" for i in range(9))]
    pages = packed(blocks, 400)
    assert [block for page in pages for block in page] == blocks
    assert len(pages[0]) > 1
    assert all(sum(map(height, page)) <= 400 for page in pages[1:])


def test_a_formula_is_a_picture_with_its_tex_as_alt_text() -> None:
    assert 'aria-label="a &lt; \\frac12"' in drawn(r"a < \frac12")
    with pytest.raises(ValueError, match="cannot be drawn"):
        drawn(r"\nonsense{x}")


def test_in_a_browser_no_slide_overflows_and_no_request_leaves_the_disk(decks: Path, browser) -> None:
    page, said = browser.new_page(viewport={"width": 1280, "height": 720}), []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: said.append(request.url) if re.match("https?:|wss?:", request.url) else None)
    page.goto((decks / "deck.html").as_uri())
    for _ in range(page.evaluate("Reveal.getTotalSlides()")):
        page.evaluate("while (Reveal.availableFragments().next) Reveal.nextFragment()")
        wide, tall, prose, what = page.evaluate(MEASURE)
        assert wide <= 1280, what
        assert tall <= 720, what
        assert prose >= 24, what
        page.keyboard.press("ArrowRight")
    assert page.evaluate("Reveal.isLastSlide()")
    assert not said
