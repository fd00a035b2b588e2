"""What importing the client costs and does not bring along."""

import subprocess
import sys


def modules_after(statement: str) -> set[str]:
    program = f"import sys\n{statement}\nprint('\\n'.join(sys.modules))"
    found = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    return set(found.stdout.split())


BROKER = (
    "adapters",
    "broker",
    "controller",
    "coordinators",
    "grpc_api",
    "kafka",
    "node",
    "partitions",
    "protocol",
    "raft",
)


def test_the_client_brings_neither_broker_code_nor_uvloop() -> None:
    modules = modules_after("import ottla.client, ottla.client.sync, ottla.client.grpc_transport")
    assert not {f"ottla.{name}" for name in BROKER} & modules
    assert not {"uvloop", "structlog", "prometheus_client", "click", "rich"} & modules


def test_grpc_is_loaded_only_when_a_client_connects() -> None:
    modules = modules_after("import ottla.client, ottla.client.sync")
    assert not {"grpc", "google.protobuf", "cramjam"} & modules


def test_the_client_imports_where_there_is_no_fork() -> None:
    program = "import os\nfor name in ('fork', 'register_at_fork'): delattr(os, name)\nimport ottla.client.sync"
    subprocess.run([sys.executable, "-c", program], check=True)
