"""A cluster of three grows: a fourth node follows, takes partitions, votes; then the first one goes for good."""

import json
import uuid
from pathlib import Path
from typing import Any

import confluent_kafka
from click.testing import CliRunner
from confluent_kafka.admin import AdminClient, NewTopic

from ottla.cli.main import cli
from ottla.node.observing import read_known_voters
from ottla.protocol.apis import ApiKey
from ottla.protocol.messages.describe_cluster_request import DescribeClusterRequest
from tests.integration.kafka_request import ask
from tests.integration.several_nodes import Nodes, several_nodes, until

WAIT_S = 40.0


def any_node(nodes: Nodes) -> str:
    return nodes.running()[-1].address("kafka")


def brokers(nodes: Nodes) -> list[tuple[int, str | None, bool]]:
    request = DescribeClusterRequest(include_fenced_brokers=True)
    answer = ask(any_node(nodes), ApiKey.DESCRIBE_CLUSTER, request)
    return sorted((one.broker_id, one.rack, one.is_fenced) for one in answer.brokers)


def ottla(nodes: Nodes, *arguments: str, stdin: str = "") -> str:
    """What the command says."""
    environment = {"OTTLA_SERVER": nodes.grpc}
    result = CliRunner().invoke(cli, list(arguments), input=stdin, env=environment)
    assert result.exit_code == 0, f"{arguments}: {result.output} {result.exception!r}\n{nodes.logs()}"
    return result.output


def quorum(nodes: Nodes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ottla(nodes, "quorum", "status", "--json"))
    return found


def voters(nodes: Nodes) -> set[int]:
    return {one["node"] for one in quorum(nodes)["voters"]}


def partitions(nodes: Nodes, topic: str) -> dict[int, Any]:
    client = AdminClient({"bootstrap.servers": nodes.bootstrap, "log_level": 0})
    return dict(client.list_topics(topic, timeout=WAIT_S).topics[topic].partitions)


def led_as_preferred(nodes: Nodes, topic: str) -> bool:
    return all(part.leader == part.replicas[0] for part in partitions(nodes, topic).values())


def in_sync(nodes: Nodes, topic: str, *replicas: int) -> None:
    until(
        lambda: all(sorted(p.isrs) == sorted(replicas) for p in partitions(nodes, topic).values()),
        f"{replicas} are in sync",
        nodes,
    )


def join(nodes: Nodes, node_id: int) -> None:
    """Format a node for the cluster, and start it."""
    node = nodes.add(node_id)
    node.peers = ""
    secret = nodes[2].directory / "cluster.secret"
    where = ["--dir", str(node.directory), "--node-id", str(node_id), "--join", nodes.grpc]
    ottla(nodes, "node", "format", *where, "--secret", "-", stdin=secret.read_text())
    node.start()
    nodes.wait_ready()


def restart(nodes: Nodes, node_id: int) -> None:
    nodes[node_id].kill()
    nodes[node_id].start()
    nodes.wait_ready()


def test_a_fourth_node_follows_takes_partitions_and_votes_and_the_first_goes(tmp_path: Path) -> None:
    with several_nodes(tmp_path, settings=lambda n: {"rack": f"r{n}"}) as nodes:
        topic = f"topic-{uuid.uuid4().hex[:8]}"
        client = AdminClient({"bootstrap.servers": nodes.bootstrap})
        new = NewTopic(topic, num_partitions=3, replica_assignment=[[1, 2, 3], [2, 3, 1], [3, 1, 2]])
        client.create_topics([new])[topic].result(WAIT_S)
        join(nodes, 4)
        assert brokers(nodes) == [(n, f"r{n}", False) for n in (1, 2, 3, 4)]
        state = quorum(nodes)
        assert ({one["node"] for one in state["voters"]}, [one["node"] for one in state["observers"]]) == (
            {1, 2, 3},
            [4],
        )
        assert set(read_known_voters(nodes[4].directory)) == {1, 2, 3}
        restart(nodes, 4)  # it finds the voters again, and begins with an empty image

        producer = confluent_kafka.Producer({"bootstrap.servers": nodes.bootstrap, "acks": "all", "log_level": 0})
        failed: list[Any] = []
        written = 0

        def write(count: int) -> None:
            nonlocal written
            for _ in range(count):
                producer.produce(
                    topic, b"%d" % written, on_delivery=lambda error, _: failed.extend([error] if error else [])
                )
                written += 1
            producer.poll(0)

        write(200)
        told = ottla(nodes, "topic", "reassign", topic, "--to-nodes", "2,3,4", "--throttle", "100000000")
        assert told.splitlines()[-1] == "3 of 3 partition(s) moved."
        in_sync(nodes, topic, 2, 3, 4)
        (described,) = json.loads(ottla(nodes, "topic", "describe", topic, "--json"))
        assert sorted(part["replicas"][0] for part in described["partitions"]) == [2, 3, 4]
        until(lambda: ottla(nodes, "elect-leaders") and led_as_preferred(nodes, topic), "preferred leaders", nodes)
        write(200)
        ottla(nodes, "quorum", "add-voter", "4")
        restart(nodes, 4)  # with a log of its own now
        ottla(nodes, "quorum", "transfer", "4")
        until(lambda: quorum(nodes)["leader"] == 4, "the fourth node leads the quorum", nodes)
        ottla(nodes, "quorum", "remove-voter", "1")
        assert voters(nodes) == {2, 3, 4}
        restart(nodes, 1)  # it votes no more, and follows
        until(lambda: brokers(nodes)[0] == (1, "r1", False), "the first node is a broker still", nodes)
        write(200)
        nodes[1].stop()
        until(lambda: (1, "r1", True) in brokers(nodes), "the first node is fenced", nodes)
        ottla(nodes, "node", "remove", "1")
        assert [one[0] for one in brokers(nodes)] == [2, 3, 4]
        write(200)
        assert producer.flush(WAIT_S) == 0, nodes.logs()
        assert not failed
        nodes[2].kill()  # of the new quorum of three
        write(100)
        assert producer.flush(WAIT_S) == 0, nodes.logs()
        nodes[2].start()
        nodes.wait_ready()
        in_sync(nodes, topic, 2, 3, 4)
