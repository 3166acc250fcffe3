"""Digits that were drawn on the pad, and how to draw them again with the mouse."""

from typing import Any

DRAWN = {  # x,y in thousandths of the pad, thinned out
    0: [
        "502,160 357,215 267,316 224,444 224,582 261,705 335,802 440,848 577,827 693,749 760,637 778,509 "
        "752,383 694,273 599,198 476,176"
    ],
    3: [
        "303,249 378,197 463,180 541,194 602,232 628,286 611,351 531,421 540,470 652,511 717,571 736,642 "
        "715,714 655,775 561,812 438,821 284,784"
    ],
    4: [
        "426,180 373,324 326,442 285,526 254,570 394,564 533,561 666,554 774,540",
        "590,322 584,434 577,539 571,638 563,733 557,819 556,859",
    ],
    7: ["288,265 366,244 442,242 522,242 604,243 691,241 717,271 678,344 634,419 585,501 538,589 494,688 456,806"],
}
RECORDED = {
    digit: [[[int(number) / 1000 for number in point.split(",")] for point in stroke.split()] for stroke in strokes]
    for digit, strokes in DRAWN.items()
}


def drag(page: Any, strokes: list[list[list[float]]]) -> None:
    """Draw with the mouse on the first canvas of the page."""
    box = page.locator("canvas").first.bounding_box()
    for stroke in strokes:
        points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in stroke]
        page.mouse.move(*points[0])
        page.mouse.down()
        for point in points[1:]:
            page.mouse.move(*point)
        page.mouse.up()
