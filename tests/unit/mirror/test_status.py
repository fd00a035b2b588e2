"""How far a flow is said to be: a direction that is at rest lags by nothing, and a lost target hides no other flow."""

from collections.abc import Iterable

import pytest

from ottla.cli import mirror_status
from ottla.client.errors import ClientError, ErrorCode
from ottla.client.types import TopicPartition
from ottla.mirror.config import FlowConfig, MirrorConfig, build_config
from ottla.mirror.operations.status import PartitionStatus

BOTH = {
    "clusters": "a, b",
    "a.bootstrap.servers": "a:9092",
    "b.bootstrap.servers": "b:9092",
    "a->b.enabled": "true",
    "b->a.enabled": "true",
}


def status_of(standing: str = "", *, reason: str = "", position: int | None = 2) -> PartitionStatus:
    at = TopicPartition("orders", 0)
    return PartitionStatus(
        flow="a->b",
        source=at,
        target=at,
        position=position,
        source_start=0,
        source_end=5,
        behind_s=None,
        report=None,
        standing=standing,
        reason=reason,
    )


@pytest.mark.parametrize(
    ("standing", "behind"), [("mirror", 3), ("refused", 3), ("returning", None), ("promoted", None)]
)
@pytest.mark.parametrize("position", [2, None])
def test_what_this_direction_is_not_to_copy_is_not_behind(
    standing: str, behind: int | None, position: int | None
) -> None:
    expected = 5 if behind is not None and position is None else behind
    assert status_of(standing, position=position).behind == expected


def test_the_table_leaves_out_what_the_other_direction_copies(capsys: pytest.CaptureFixture[str]) -> None:
    flow = build_config(BOTH).flows[0]
    rows = [status_of("returning", reason="the other way"), status_of("promoted", reason="reverse it")]
    for show_all, returning in ((False, 1), (True, 2)):  # the flow's own line counts them
        mirror_status.show([mirror_status.Measured(flow, rows)], show_all=show_all)
        told = capsys.readouterr().out
        assert told.count("returning") == returning
        assert "reverse it" in told


async def test_a_flow_whose_target_is_gone_hides_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    config = build_config(BOTH)
    lost = {"b"}

    async def measured(_: MirrorConfig, flows: Iterable[FlowConfig]) -> list[mirror_status.Measured]:
        if any(flow.target in lost for flow in flows):
            raise ClientError(ErrorCode.NETWORK_EXCEPTION, "cluster b: it is gone")
        return [mirror_status.Measured(flow) for flow in flows]

    monkeypatch.setattr(mirror_status, "_measured", measured)
    found = {one.flow.name: one.error for one in await mirror_status.measure(config, list(config.flows))}
    assert found == {"a->b": "NETWORK_EXCEPTION: cluster b: it is gone", "b->a": ""}
    lost.add("a")
    with pytest.raises(ClientError, match="gone"):
        await mirror_status.measure(config, list(config.flows))
