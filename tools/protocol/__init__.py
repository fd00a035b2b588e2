"""Generates `ottla/protocol/messages` from Apache Kafka's message definitions.

Two steps. `extract` reads the definitions out of Kafka's jars (fetched by Maven with the `pom.xml` of this folder) and
writes `definitions.json`: names, types, versions, nullability, defaults and tags, nothing else. `generate` turns that
file into Python, or with ``--check`` says whether the committed Python is what it would write. `make protocol` runs
both.
"""
