"""Where the nodes of a local cluster are, and what is refused before anything is made."""

from pathlib import Path

import pytest

from ottla.core.errors import ConfigError
from ottla.node.founding import free_ports
from ottla.node.local.ports import Ports
from ottla.node.local.spec import ClusterSpec, check_advertise


def test_every_node_has_its_own_ports(tmp_path: Path) -> None:
    spec = ClusterSpec(nodes=3, directory=tmp_path)
    ports = Ports(tmp_path)
    places = spec.places(ports)
    assert [place.internal for place in places] == ["127.0.0.1:12092", "127.0.0.1:12093", "127.0.0.1:12094"]
    third = spec.node_settings(3, places, ports)
    assert third["listeners"] == "PLAINTEXT://localhost:9094"
    assert (third["grpc_listener"], third["http_listener"]) == ("localhost:10094", "localhost:11094")
    assert third["replication_listener"] == "127.0.0.1:13094"


def test_nodes_reach_each_other_on_loopback_whatever_clients_are_offered(tmp_path: Path) -> None:
    spec = ClusterSpec(nodes=1, directory=tmp_path, host="0.0.0.0", advertise="example.org", insecure=True)
    spec.validate()
    ports = Ports(tmp_path)
    settings = spec.node_settings(1, spec.places(ports), ports)
    assert settings["internal_listener"] == "127.0.0.1:12092"
    assert settings["replication_listener"] == "127.0.0.1:13092"
    assert settings["advertised_listeners"] == "PLAINTEXT://example.org:9092"


def test_free_ports_are_those_of_the_last_start(tmp_path: Path) -> None:
    spec = ClusterSpec(nodes=3, directory=tmp_path, base_port=0)
    ports = Ports(tmp_path)
    places = spec.places(ports)
    assert len({place.internal for place in places}) == 3
    (port,) = free_ports("127.0.0.1", 1)
    ports.learn(2, {"kafka": port})
    ports.save()
    again = Ports(tmp_path)
    assert spec.places(again) == places
    assert spec.node_settings(2, places, again)["listeners"] == f"PLAINTEXT://localhost:{port}"


def test_as_many_nodes_as_the_directory_holds(tmp_path: Path) -> None:
    assert ClusterSpec(directory=tmp_path).count == 1
    for number in (1, 2, 3):
        (tmp_path / f"node-{number}").mkdir()
        (tmp_path / f"node-{number}" / "ottla.format").write_text("")
    assert ClusterSpec(directory=tmp_path).count == 3
    assert ClusterSpec(directory=tmp_path, nodes=1).count == 1


@pytest.mark.parametrize("nodes", [0, 6])
def test_too_few_and_too_many_nodes_are_refused(tmp_path: Path, nodes: int) -> None:
    with pytest.raises(ConfigError, match="1 to 5 nodes"):
        ClusterSpec(nodes=nodes, directory=tmp_path).validate()


def test_a_wrong_setting_is_found_before_anything_is_made(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    with pytest.raises(ConfigError, match=r"num\.partitions"):
        ClusterSpec(directory=directory, kafka={"num.partitionss": "3"}).validate()
    assert not directory.exists()


def test_a_port_that_leaves_no_room_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="choose one between"):
        ClusterSpec(directory=tmp_path, base_port=65000).validate()


def test_an_advertised_host_has_no_port() -> None:
    assert check_advertise(" [::1] ") == "::1"
    with pytest.raises(ConfigError, match="name only the host"):
        check_advertise("example.org:9092")


def test_each_node_may_have_an_address_of_its_own_and_a_command_that_brings_it_there(tmp_path: Path) -> None:
    launch = ("nsenter", "--net=/run/{node}", "--")
    spec = ClusterSpec(nodes=2, directory=tmp_path, host="198.18.0.{node}", insecure=True, launch=launch)
    spec.validate()
    ports = Ports(tmp_path)
    settings = spec.node_settings(2, spec.places(ports), ports)
    assert settings["peers"] == "1@198.18.0.1:12092,2@198.18.0.2:12093"
    assert settings["listeners"] == "PLAINTEXT://198.18.0.2:9093"
    assert settings["replication_listener"] == "198.18.0.2:13093"
    assert spec.command_before(2) == ["nsenter", "--net=/run/2", "--"]


def test_free_ports_are_not_looked_for_at_addresses_that_may_be_elsewhere(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="need a --port"):
        ClusterSpec(nodes=1, directory=tmp_path, host="198.18.0.{node}", base_port=0, insecure=True).validate()
