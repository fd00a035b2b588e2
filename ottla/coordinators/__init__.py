"""Coordinators: replicated state machines over the partitions of internal topics, on one shared runtime.

Pure: shards take requests and timer events and return effects; the runtime sees the world through the Clock port and
the partition that holds a shard's records.
"""
