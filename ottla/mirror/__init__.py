"""Mirroring between clusters: topics of one cluster live on in another, with exact offsets and without loops.

`config` is what the operator wrote, `core` decides (pure), and the engine beside them does. Either cluster may be Ottla
or Apache Kafka; `docs/mirror.md` tells users what it does, and how it differs from MirrorMaker 2.
"""
