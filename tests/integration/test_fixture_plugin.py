"""The pytest plugin as its users meet it: suites of their own, in a pytest of their own."""

import time
from pathlib import Path

import pytest

from ottla.testing.cluster import Cluster, ClusterError

pytest_plugins = ["pytester"]

ROUND_TRIP = """
    from ottla.client import Consumer, Producer

    async def round_trip(cluster, topic):
        async with Producer(bootstrap_servers=cluster.grpc) as producer:
            await producer.send_and_wait(topic, b"hello")
        async with Consumer(topic, bootstrap_servers=cluster.grpc, auto_offset_reset="earliest") as consumer:
            async for record in consumer:
                assert record.value == b"hello"
                break
"""


def test_it_serves_asyncio_anyio_and_plain_tests(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(round_trip=ROUND_TRIP)
    pytester.makepyfile(
        """
        import asyncio
        import pytest
        from round_trip import round_trip

        @pytest.mark.asyncio
        async def test_asyncio(ottla_cluster, ottla_topic):
            await round_trip(ottla_cluster, ottla_topic)

        @pytest.mark.anyio
        @pytest.mark.parametrize("anyio_backend", ["asyncio"])
        async def test_anyio(ottla_cluster, ottla_topic, anyio_backend):
            await round_trip(ottla_cluster, ottla_topic)

        def test_plain(ottla_cluster, ottla_topic):
            asyncio.run(round_trip(ottla_cluster, ottla_topic))
        """
    )
    pytester.runpytest_subprocess("-p", "no:randomly", "-o", "asyncio_mode=strict").assert_outcomes(passed=3)


def test_every_xdist_worker_has_its_own_cluster(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import os
        from pathlib import Path
        import pytest

        @pytest.mark.parametrize("n", range(2))
        def test_worker(ottla_cluster, n):
            worker = os.environ["PYTEST_XDIST_WORKER"]
            Path(os.environ["SEEN"], worker).write_text(ottla_cluster.bootstrap)
        """
    )
    seen = pytester.mkdir("seen")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEEN", str(seen))
        pytester.runpytest_subprocess("-n", "2", "--dist", "load").assert_outcomes(passed=2)
    addresses = [path.read_text() for path in seen.iterdir()]
    assert len(addresses) == len(set(addresses)) == 2


def test_a_failure_shows_what_the_nodes_logged_during_the_test(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import socket
        import time

        def test_before(ottla_cluster):
            pass

        def test_failing(ottla_cluster):
            host, port = ottla_cluster.bootstrap.split(":")
            with socket.create_connection((host, int(port))) as connection:
                connection.sendall(bytes(3) + b"\\x20" + bytes(40) + b"GET / HTTP")
                connection.recv(1)
            assert False, "on purpose"
        """
    )
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*Ottla's nodes at localhost:*", "*connection closed*"])
    result.stdout.no_fnmatch_line("*ready version=*")


def test_settings_and_further_clusters(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        """
        import pytest

        @pytest.fixture(scope="session")
        def ottla_settings():
            return {"num.partitions": 3, "rack": "a"}
        """
    )
    pytester.makepyfile(
        """
        from ottla.client.sync import Admin

        def partitions(cluster):
            with Admin(bootstrap_servers=cluster.grpc) as admin:
                return admin.create_topic("t").num_partitions

        def test_settings(ottla_cluster, ottla_cluster_factory):
            other = ottla_cluster_factory(settings={"num.partitions": 2})
            assert [partitions(ottla_cluster), partitions(other)] == [3, 2]
            assert ottla_cluster.bootstrap != other.bootstrap
        """
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=1)


def test_the_plugin_loads_nothing_heavy(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_light():
            heavy = ("grpc", "uvloop", "structlog", "google.protobuf", "ottla.client", "ottla.node", "ottla.cli")
            assert "ottla.testing.pytest_plugin" in sys.modules
            assert not [name for name in heavy if name in sys.modules]
        """
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=1)


def test_a_cluster_keeps_data_and_ports_through_kill_and_restart(tmp_path: Path) -> None:
    from ottla.client.sync import Consumer, Producer

    with Cluster(tmp_path / "data") as cluster:
        addresses = (cluster.bootstrap, cluster.grpc)
        for value in (b"one", b"two"):
            with Producer(bootstrap_servers=cluster.grpc) as producer:
                producer.send("t", value).result(10)
            if value == b"one":
                cluster.kill()
                cluster.start()
            else:
                cluster.restart()
            assert (cluster.bootstrap, cluster.grpc) == addresses
        with Consumer("t", bootstrap_servers=cluster.grpc, auto_offset_reset="earliest") as consumer:
            assert [next(consumer).value for _ in range(2)] == [b"one", b"two"]


def test_a_second_start_takes_less_than_a_second() -> None:
    durations = []
    with Cluster() as cluster:
        for _ in range(4):
            cluster.kill()
            start = time.monotonic()
            cluster.start()
            durations.append(time.monotonic() - start)
            if durations[-1] < 1.0:
                return
    pytest.fail(f"seconds to start: {durations}")


def test_a_cluster_that_cannot_start_shows_why() -> None:
    cluster = Cluster(settings={"no.such.config": 1})
    with pytest.raises(ClusterError, match=r"no\.such\.config"):
        cluster.start()
    cluster.stop()
    assert not cluster.directory.exists()
