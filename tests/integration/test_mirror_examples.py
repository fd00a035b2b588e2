"""The scenarios of `examples/mirror`, with fewer records."""

import pytest

from examples.mirror import active_active, active_passive, aggregation, exact_link, migration
from ottla.testing.cluster import Cluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_work_goes_on_in_another_cluster_and_returns() -> None:
    active_passive.main(200)


def test_a_ring_of_clusters_that_are_all_written() -> None:
    active_active.main(200, active_active.RING)


def test_two_clusters_become_one() -> None:
    aggregation.main(200)


def test_a_group_moves_to_another_cluster_and_back() -> None:
    with Cluster() as old:
        migration.main(old.bootstrap, 200, nodes=1)


def test_a_link_of_the_same_bytes_and_offsets_moves_there_and_back() -> None:
    exact_link.main(200)
