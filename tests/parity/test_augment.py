"""Augmented screens: boxes go where the pixels go."""

import numpy as np
import pytest
from black_box import screen

pytest.importorskip("torch")

from mm15_mlx.convert.mm15_torch.augment import move, recolour, spoil

pytestmark = pytest.mark.parity


@pytest.mark.parametrize("seed", range(12))
def test_boxes_move_with_the_pixels(seed: int) -> None:
    row, moved = move(*screen(), np.random.default_rng(seed))
    assert moved.size == (200, 400)
    ys, xs = np.nonzero(np.asarray(moved.convert("L")) < 128)
    box = row["texts"][0]["box"]
    seen = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
    assert np.abs(np.array(box) - seen).max() <= 1.5
    assert row["elements"][0]["box"] == box
    edges = row["texts"][0]["edges"]
    assert edges[0] == box[0] and edges[2] == box[2]
    assert edges[1] == pytest.approx((box[0] + box[2]) / 2, abs=0.2)
    x1, y1, x2, y2 = row["elements"][1]["box"]
    assert 0 <= x1 < x2 <= 200 and 0 <= y1 < y2 <= 400


def test_what_is_cut_is_left_out_or_ends_at_the_edge() -> None:
    row, image = screen()
    row["texts"][0]["box"] = [0, 120, 90, 150]
    row["elements"][0]["box"] = [0, 0, 200, 2]  # a sliver at the edge
    larger = [
        found
        for seed in range(40)
        for found in [move(row, image, np.random.default_rng(seed))[0]]
        if found["elements"][-1]["box"] == [0, 0, 200, 400]
    ]
    assert larger and any(not found["texts"] for found in larger)
    assert any(len(found["elements"]) == 1 for found in larger)


def test_the_row_is_not_changed() -> None:
    row, image = screen()
    move(row, image, np.random.default_rng(0))
    assert row == screen()[0]


def test_colours_and_spoiling_keep_the_shape() -> None:
    picture = np.asarray(screen()[1])
    rng = np.random.default_rng(0)
    spoiled = [spoil(picture, rng) for _ in range(12)]
    assert all(s.shape == picture.shape and s.dtype == np.uint8 for s in spoiled)
    same = sum(np.array_equal(s, picture) for s in spoiled)
    assert 0 < same < 12
    coloured = recolour(np.stack([picture] * 8), rng)
    assert coloured.shape == (8, 400, 200, 3) and coloured.dtype == np.float32
    assert 0 <= coloured.min() and coloured.max() <= 1
    dark = coloured[:, 0, 0].mean(-1) < 0.5  # of a white corner: inverted
    assert 0 < dark.sum() < 8
