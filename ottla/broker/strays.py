"""Directories of partitions that the cluster's metadata does not know, found at start.

A crash between the commit of a topic's deletion and the removal of its files leaves them behind. They are set aside
rather than deleted: a metadata log restored from an old copy would make the newest topics look the same.
"""

import structlog

from ottla.core.errors import StorageError
from ottla.core.ports import Files
from ottla.partitions.checkpoints import PARTITION_METADATA_FILE, read_partition_metadata
from ottla.partitions.manager import DAMAGED_SUFFIX, DELETE_SUFFIX, STRAY_SUFFIX, PartitionManager, name_apart

logger = structlog.get_logger(__name__)


def set_strays_aside(files: Files, partitions: PartitionManager) -> None:
    """Rename them. Blocks: at start, when this node's partitions are open."""
    known = {partition.name for partition in partitions} | partitions.leaving
    renamed = False
    for name in files.list_directory(""):
        if name in known or name.endswith((STRAY_SUFFIX, DELETE_SUFFIX, DAMAGED_SUFFIX)):
            continue
        try:
            topic_id = read_partition_metadata(files, f"{name}/{PARTITION_METADATA_FILE}")
        except (OSError, StorageError):
            continue  # not a partition's directory, or one that nobody could tell the owner of
        target = name_apart(name, topic_id, STRAY_SUFFIX)
        files.rename(name, target)
        renamed = True
        logger.warning(
            "the metadata knows no such partition; its files were set aside. Delete them if its topic was deleted",
            partition=name,
            moved_to=target,
        )
    if renamed:
        files.sync_directory("")
