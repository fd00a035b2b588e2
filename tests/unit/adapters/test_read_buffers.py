"""A buffer is used again when nobody can see it any more, and never before."""

from ottla.adapters.read_buffers import BUFFER_BYTES, MAX_BUFFERS, ReadBuffers


def base(view: memoryview) -> int:
    return id(view.obj)


def test_a_buffer_that_nobody_holds_is_used_again() -> None:
    buffers = ReadBuffers()
    first = base(buffers.take(BUFFER_BYTES))
    assert base(buffers.take(BUFFER_BYTES - 1)) == first


def test_a_buffer_stays_while_any_view_of_it_lives() -> None:
    buffers = ReadBuffers()
    view = buffers.take(BUFFER_BYTES)
    part = view[10:20]
    kept = base(view)
    del view
    assert base(buffers.take(BUFFER_BYTES)) != kept
    del part
    seen = {base(buffers.take(BUFFER_BYTES)) for _ in range(3)}
    assert kept in seen


def test_more_than_the_pool_holds_are_made_for_once() -> None:
    buffers = ReadBuffers()
    held = [buffers.take(BUFFER_BYTES) for _ in range(MAX_BUFFERS + 5)]
    assert len({base(view) for view in held}) == MAX_BUFFERS + 5
    assert len(buffers._buffers) == MAX_BUFFERS


def test_lengths_are_exact() -> None:
    buffers = ReadBuffers()
    for length in (0, 1, 1 << 14, (1 << 14) + 1, BUFFER_BYTES, BUFFER_BYTES + 1):
        assert len(buffers.take(length)) == length
