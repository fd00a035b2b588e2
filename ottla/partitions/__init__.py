"""Partitions: the log on disk, its recovery, retention and compaction, producer state, and the replica on top.

Pure: files, threads and timers are reached through the ports of `ottla.core.ports`.
"""
