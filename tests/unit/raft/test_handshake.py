"""Who is at the other end of a stream, and which of two streams stands."""

from dataclasses import replace

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ottla.core.errors import DecodeError
from ottla.core.types import NodeId, Uuid
from ottla.raft.core.member import Member
from ottla.raft.handshake import (
    MAX_HELLO_BYTES,
    Hello,
    Refused,
    Side,
    Standing,
    accepts,
    check_peer,
    check_proof,
    decode_hello,
    decode_proof,
    decode_welcome,
    encode_hello,
    encode_proof,
    encode_welcome,
    prove,
)
from ottla.v1 import quorum_pb2 as pb

CLUSTER = Uuid(b"c" * 16)
SECRET = b"the cluster's secret"
LOW, HIGH = NodeId(1), NodeId(2)


def hello(node: int, peer: int, nonce: bytes = b"n" * 16, last_stream: bytes = b"") -> Hello:
    return Hello(
        cluster_id=CLUSTER, member=Member(NodeId(node), Uuid(b"d" * 16)), peer=NodeId(peer), nonce=nonce,
        incarnation=b"i" * 16, last_stream=last_stream,
    )  # fmt: skip


@pytest.mark.parametrize("last_stream", [b"", b"l" * 16])
def test_a_hello_comes_back_as_it_was(last_stream: bytes) -> None:
    said = hello(1, 2, last_stream=last_stream)
    assert decode_hello(encode_hello(said, b"proof")) == (said, b"proof")
    assert decode_proof(encode_proof(b"proof")) == b"proof"
    decode_welcome(encode_welcome())


@given(st.binary(max_size=200))
def test_any_bytes_give_a_hello_or_a_decode_error(data: bytes) -> None:
    try:
        decode_hello(data)
    except (DecodeError, Refused):
        return


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        encode_welcome(),
        encode_hello(replace(hello(1, 2), nonce=b"n" * 15)),
        encode_hello(replace(hello(1, 2), cluster_id=Uuid(b""))),
        encode_hello(replace(hello(1, 2), incarnation=b"i" * 17)),
        encode_hello(replace(hello(1, 2), last_stream=b"l")),
        encode_hello(replace(hello(1, 2), member=Member(NodeId(-1), Uuid(b"d" * 16)))),
        encode_hello(replace(hello(1, 2), member=Member(NodeId(1), Uuid(b"d")))),
        encode_hello(hello(1, 2), bytes(MAX_HELLO_BYTES)),
    ],
)
def test_a_hello_that_is_none_is_a_decode_error(frame: bytes) -> None:
    with pytest.raises(DecodeError):
        decode_hello(frame)


def test_another_version_is_refused_whatever_else_it_says() -> None:
    frame = pb.QuorumFrame(hello=pb.QuorumHello(protocol_version=9, node_id=4)).SerializeToString()
    with pytest.raises(Refused, match=r"node 4 speaks version 9 .* its peer version 1") as refused:
        decode_hello(frame)
    assert refused.value.code is grpc.StatusCode.FAILED_PRECONDITION


def test_a_frame_that_is_no_welcome_is_a_decode_error() -> None:
    with pytest.raises(DecodeError):
        decode_welcome(encode_proof(b"proof"))


def test_a_node_of_another_cluster_is_refused_with_both_ids() -> None:
    theirs = replace(hello(1, 2), cluster_id=Uuid(b"o" * 16))
    with pytest.raises(
        Refused, match=r"node 1 belongs to cluster b29vb29vb29vb29vb29vbw.*cluster Y2NjY2NjY2NjY2NjY2NjYw"
    ):
        check_peer(HIGH, CLUSTER, theirs)


def test_a_node_of_the_same_id_is_refused() -> None:
    with pytest.raises(Refused, match="both nodes have the id 2"):
        check_peer(HIGH, CLUSTER, hello(2, 2))


def test_a_node_that_looks_for_another_one_is_refused() -> None:
    with pytest.raises(Refused, match="node 1 looks for node 3, but this is node 2"):
        check_peer(HIGH, CLUSTER, hello(1, 3))


def test_who_knows_the_secret_can_prove_it() -> None:
    dialler, acceptor = hello(1, 2, b"1" * 16), hello(2, 1, b"2" * 16)
    for side in Side:
        check_proof(SECRET, side, dialler, acceptor, prove(SECRET, side, dialler, acceptor))


def test_a_proof_holds_for_one_secret_one_side_and_one_stream() -> None:
    dialler, acceptor = hello(1, 2, b"1" * 16), hello(2, 1, b"2" * 16)
    proof = prove(SECRET, Side.DIALLER, dialler, acceptor)
    others = [
        (b"another secret", Side.DIALLER, dialler, acceptor),
        (SECRET, Side.ACCEPTOR, dialler, acceptor),
        (SECRET, Side.DIALLER, acceptor, dialler),
        (SECRET, Side.DIALLER, replace(dialler, nonce=b"3" * 16), acceptor),
        (SECRET, Side.DIALLER, dialler, replace(acceptor, nonce=b"3" * 16)),
        (SECRET, Side.DIALLER, replace(dialler, member=Member(NodeId(3), Uuid(b"d" * 16))), acceptor),
        (SECRET, Side.DIALLER, replace(dialler, incarnation=b"j" * 16), acceptor),
        (SECRET, Side.DIALLER, dialler, replace(acceptor, last_stream=b"l" * 16)),
    ]
    for secret, side, first, second in others:
        with pytest.raises(Refused, match="does not know the secret") as refused:
            check_proof(secret, side, first, second, proof)
        assert refused.value.code is grpc.StatusCode.UNAUTHENTICATED
    with pytest.raises(Refused):
        check_proof(SECRET, Side.DIALLER, dialler, acceptor, b"")


# -- which of two streams stands, seen by the node that is dialled


def standing(*, dialled: bool, incarnation: bytes = b"i" * 16) -> Standing:
    return Standing(name=b"s" * 16, dialled=dialled, incarnation=incarnation)


def test_where_none_stands_a_stream_stands() -> None:
    assert accepts(LOW, None, hello(HIGH, LOW))
    assert accepts(HIGH, None, hello(LOW, HIGH))


def test_the_lower_node_keeps_the_stream_that_it_dialled_at_the_same_time() -> None:
    assert not accepts(LOW, standing(dialled=True), hello(HIGH, LOW))
    assert not accepts(LOW, standing(dialled=True), hello(HIGH, LOW, last_stream=b"an earlier one.."))


def test_the_higher_node_gives_up_the_stream_that_it_dialled() -> None:
    assert accepts(HIGH, standing(dialled=True), hello(LOW, HIGH))


def test_the_lower_node_gives_up_a_stream_that_the_peer_has_lost() -> None:
    assert accepts(LOW, standing(dialled=True), hello(HIGH, LOW, last_stream=b"s" * 16))


def test_the_lower_node_gives_up_a_stream_to_an_earlier_start_of_the_peer() -> None:
    assert accepts(LOW, standing(dialled=True, incarnation=b"earlier start..."), hello(HIGH, LOW))


@pytest.mark.parametrize(("own", "peer"), [(LOW, HIGH), (HIGH, LOW)])
def test_who_dials_again_has_lost_the_stream_that_it_dialled(own: NodeId, peer: NodeId) -> None:
    assert accepts(own, standing(dialled=False), hello(peer, own))
