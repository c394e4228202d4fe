"""Parts of a computation side by side, while products stay on one thread."""

import threading

import pytest
from threadpoolctl import ThreadpoolController

from mm15_mlx.cores import on_all_cores


def test_products_stay_on_one_thread_while_loops_share_the_cores() -> None:
    """NumPy's BLAS gets its threads back afterwards, also when something fails."""

    def threads() -> set[int]:
        found = ThreadpoolController().select(user_api="blas").info()
        return {library["num_threads"] for library in found}

    with ThreadpoolController().limit(limits=2, user_api="blas"):
        before, seen, names = threads(), [], []

        def look(part: int) -> None:
            seen.append(threads())
            names.append(threading.current_thread().name)
            assert part < 3, "the fourth part fails"

        on_all_cores(look, range(3))
        assert seen == [{1}] * 3 and threads() == before == {2}
        assert all(n.startswith("mm15-fast-cpu") for n in names)
        with pytest.raises(AssertionError, match="the fourth part fails"):
            on_all_cores(look, range(4))
        assert threads() == before
