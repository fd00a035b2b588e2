"""Batches that Apache Kafka 4.3.1's own classes wrote (`MemoryRecords`), and strategies for batches of our own."""

import json
from pathlib import Path

from hypothesis import strategies as st

from ottla.records.batch import Record

JAVA = {
    name: bytes.fromhex(text)
    for name, text in json.loads((Path(__file__).parent / "java_batches.json").read_text()).items()
}
JAVA_HORIZON_MS = 1700000005000 + 86400000

optional_bytes = st.none() | st.binary(max_size=300)
record_headers = st.lists(st.tuples(st.text(max_size=10), optional_bytes), max_size=3).map(tuple)
records = st.builds(
    Record,
    timestamp=st.integers(-1, 1 << 45),
    key=optional_bytes,
    value=optional_bytes,
    headers=st.just(()) | record_headers,
)
record_lists = st.lists(records, min_size=1, max_size=20)
dated_record_lists = record_lists.map(lambda drawn: [r._replace(timestamp=max(r.timestamp, 0)) for r in drawn])
"""Without timestamp -1, which aiokafka takes for a base timestamp that is still to be set."""


def without_offsets(decoded: list[Record]) -> list[Record]:
    return [record._replace(offset=-1) for record in decoded]
