"""Makes `java_vectors.json`: records of internal topics as Apache Kafka's own classes write and understand them.

``python -m tests.unit.protocol.make_java_vectors 'KAFKA/libs/*'`` (a Java class path) reads our bytes with those
classes and keeps the bytes that they write and their view of the content. Run it when the definitions change.
With ``--all`` it keeps nothing, and compares our bytes with Kafka's for many samples of every message.
"""

import json
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

from tests.unit.protocol.protocol_samples import MESSAGES, Sampler
from tools.protocol.model import MessageDefinition

VECTORS = Path(__file__).with_name("java_vectors.json")


def java_class(message: MessageDefinition) -> str:
    if message.kind in ("request", "response", "header"):
        return f"org.apache.kafka.common.message.{message.name}Data"
    if message.kind == "data":
        return f"org.apache.kafka.common.message.{message.name}"
    package = "group"
    if message.name.startswith("TransactionLog"):
        package = "transaction"
    if message.name.startswith(("ShareSnapshot", "ShareUpdate")):
        package = "share"
    return f"org.apache.kafka.coordinator.{package}.generated.{message.name}"


def ask_java(class_path: str, rows: list[tuple[MessageDefinition, int, bytes]]) -> list[tuple[str, Any]]:
    """For each message the bytes (hexadecimal) and the content as Java has them."""
    lines = "\n".join(f"{java_class(message)} {version} {encoded.hex()}" for message, version, encoded in rows)
    program = ["java", "-cp", class_path, str(Path(__file__).with_name("Vectors.java"))]
    answer = subprocess.run(program, input=lines, stdout=subprocess.PIPE, text=True, check=True).stdout
    fields = (line.split("\t", 1) for line in answer.splitlines())
    return [(written, json.loads(content)) for written, content in fields]


def samples(count: int, *, small: bool) -> list[tuple[MessageDefinition, int, bytes]]:
    return [
        (message, version, Sampler(Random(f"{message.name} {version} {number}"), small=small)
         .message(message, version).encode(version))
        for message in MESSAGES
        for version in range(message.top.versions.first, message.top.versions.last + 1)
        for number in range(count)
        if not small or message.kind.startswith("coordinator")
    ]  # fmt: skip


def main(arguments: list[str]) -> int:
    if "--all" in arguments:
        rows = samples(8, small=False)
        answers = ask_java(arguments[0], rows)
        differ = [row[:2] for row, answer in zip(rows, answers, strict=True) if row[2].hex() != answer[0]]
        sys.stdout.write(f"{len(rows)} messages, {len(differ)} differ {differ}\n")
        return 1 if differ else 0
    rows = samples(2, small=True)
    vectors = [
        json.dumps({"message": message.name, "version": version, "bytes": written, "content": content})
        for (message, version, _), (written, content) in zip(rows, ask_java(arguments[0], rows), strict=True)
    ]
    VECTORS.write_text("[\n" + ",\n".join(vectors) + "\n]\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
