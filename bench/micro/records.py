"""What record batches cost: `python -m bench.micro.records` prints the best of many rounds, in microseconds."""

from collections.abc import Callable
from time import thread_time

from ottla.records.batch import (
    Compression,
    Record,
    decode_records,
    encode_batch,
    patch_base_offset,
    read_header,
    validate,
)
from ottla.records.filtering import filter_batch
from ottla.records.scan import scan_batch

ROUNDS = 40


def best_us(function: Callable[[], object], repeat: int) -> float:
    """The quickest round; processor time, so that a busy machine disturbs less."""
    best = float("inf")
    for _ in range(ROUNDS):
        started = thread_time()
        for _ in range(repeat):
            function()
        best = min(best, (thread_time() - started) / repeat * 1e6)
    return best


def show(name: str, function: Callable[[], object], repeat: int = 3) -> None:
    print(f"{name:<56}{best_us(function, repeat):>10.2f} µs")


def main() -> None:
    start = 1_700_000_000_000
    plain = [Record(timestamp=start + index // 10, value=bytes(100)) for index in range(1000)]
    rich = [
        Record(
            timestamp=start + index * 10, key=b"key-%d" % index, value=b"value %d " % index * 10, headers=(("h", b"x"),)
        )
        for index in range(1000)
    ]
    batch = encode_batch(plain)
    show("encode 1,000 records of 100 bytes", lambda: encode_batch(plain))
    show("decode them", lambda: decode_records(batch))
    show("scan them", lambda: sum(1 for _ in scan_batch(batch)))
    show("filter every other", lambda: filter_batch(batch, keep=lambda entry: entry.offset % 2 == 0))
    for codec in Compression:
        compressed = encode_batch(rich, compression=codec)
        name = f"1,000 with key and header, {codec.name.lower()} ({len(compressed)} bytes)"
        show(f"encode {name}", lambda codec=codec: encode_batch(rich, compression=codec), 1)  # type: ignore[misc]
        show(f"decode {name}", lambda compressed=compressed: decode_records(compressed), 1)  # type: ignore[misc]
    for count in (1, 10, 1000):
        view = memoryview(bytearray(encode_batch(plain[:count])))

        def append(view: memoryview = view) -> None:
            validate(view)
            patch_base_offset(view, 0, 12345, 6)

        show(f"read the header ({len(view)} bytes)", lambda view=view: read_header(view), 1000)  # type: ignore[misc]
        show(f"validate ({len(view)} bytes)", lambda view=view: validate(view), 1000)  # type: ignore[misc]
        show(f"validate and assign offsets ({len(view)} bytes)", append, 1000)


if __name__ == "__main__":
    main()
