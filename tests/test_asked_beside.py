"""What a screen could be asked alone, asked where it is shown beside another."""

import re
from random import Random

from mm15_mlx.screens import several
from tests.test_several_screens import LEFT, RIGHT


def test_one_of_two_screens_is_asked_as_if_alone() -> None:
    rows = [{**row, "layout": "settings"} for row in (LEFT, RIGHT)]
    for k, row in enumerate(rows):
        other = rows[1 - k]
        made = several.beside(Random(0), rows, k, 20)
        assert made and all(m.images == rows for m in made)
        boxes = [t["box"] for t in [*row["texts"], *row["elements"]]]
        for m in made:
            assert m.question.prompt.startswith(f"On the {several.PLACES[k]} screen: ")
            shown = re.findall(
                r"<box image=(.)>(.*?)</box>", m.question.prompt + m.question.answer
            )
            assert [int(image) for image, _ in shown] == [k]
            assert m.there == (k, [float(v) for v in shown[0][1].split(",")])
            assert m.there[1] in boxes
        said = {(m.question.task, m.question.answer) for m in made}
        assert ("ocr", row["texts"][0]["text"]) in said
        assert ("ocr", other["texts"][0]["text"]) not in said
        assert len(several.beside(Random(0), rows, k, 3)) <= 3
