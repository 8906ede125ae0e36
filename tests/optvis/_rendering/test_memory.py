import gc
import weakref

import pytest
import torch

from captum_neuroinspect.optvis._rendering.memory import Portions, is_out_of_memory


def _fits(most, error=MemoryError):
    calls = []

    def work(rows):
        width = rows.stop - rows.start
        calls.append((rows.start, rows.stop))
        if width > most:
            raise error
        return list(range(10))[rows]

    return work, calls


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("most", [1, 2, 5, 100])
def test_every_row_is_done_once_and_in_order(size, most):
    work, _ = _fits(most)
    portions = Portions(size)
    assert [row for rows in portions.run(7, work) for row in rows] == list(range(7))
    assert portions.size <= max(most, 1) or portions.size == size


def test_what_is_done_stays_done_and_the_size_is_kept():
    work, calls = _fits(2)
    portions = Portions(5)
    portions.run(7, work)
    assert calls == [(0, 5), (0, 2), (2, 4), (4, 6), (6, 7)]
    calls.clear()
    portions.run(3, work)
    assert calls == [(0, 2), (2, 3)]


def test_a_result_may_be_none():
    assert Portions(2).run(3, lambda rows: None) == [None, None]


def test_tensors_of_the_failed_attempt_are_gone_before_the_next():
    class Held:
        pass

    held = []

    def work(rows):
        assert all(ref() is None for ref in held), "the first attempt keeps its tensors"
        if rows.stop > 1 and not held:
            mine = Held()
            held.append(weakref.ref(mine))
            raise MemoryError
        return rows.stop

    gc.disable()
    try:
        assert Portions(2).run(2, work) == [1, 2]
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.cuda.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
        (KeyboardInterrupt(), False),
    ],
)
def test_which_errors_are_about_memory(error, expected):
    assert is_out_of_memory(error) == expected


def test_a_subclass_with_other_arguments():
    class ArrayMemoryError(MemoryError):
        def __init__(self, shape, dtype):
            super().__init__(shape, dtype)

    work, _ = _fits(0, ArrayMemoryError((1,), "float"))
    with pytest.raises(MemoryError, match="for a single image: try a smaller size"):
        Portions(2).run(2, work)
