# Everything that is done to this project has a name here. `make up` and `make test` need nothing but Python 3.11 or
# newer with pip and venv, gcc and make; both keep their environment in .venv.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Warnings off: setuptools tells at each editable install how such installs work.
PIP := PYTHONWARNINGS=ignore $(BIN)/python -m pip --quiet --disable-pip-version-check
OLDEST_PIP := $(subst $(BIN),$(VENV)-oldest/bin,$(PIP))
PYTEST := $(BIN)/python -m tools.run_tests

# What `make up` starts: `make up NODES=1`, `make up UP="--port 0 --fresh"`.
NODES ?= 3
UP ?=

.DEFAULT_GOAL := help
.PHONY: help up env test test-oldest soak rolling transactions chaos chaos-kafka chaos-smoke chaos-convict stall mirror-denied mirror-java mirror-migration interop interop-kafka-python interop-confluent interop-confluent-consumer interop-aiokafka interop-kcat sim check format proto protocol bench bench-mirror system docs wheel-check installs wheel test-compiled clean

help:  ## Say what there is.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

$(VENV)/.made: constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --upgrade --constraint constraints.txt pip
	@touch $@

$(VENV)/.package: $(VENV)/.made pyproject.toml
	$(PIP) install --constraint constraints.txt --editable .
	@$(BIN)/python -m compileall -q ottla  # so that the first start is as quick as the next
	@touch $@

$(VENV)/.dev: $(VENV)/.package
	$(PIP) install --constraint constraints.txt --group dev
	@touch $@

env: $(VENV)/.dev  ## Make .venv with everything that the tests and checks need.

up: $(VENV)/.package  ## Start a cluster of three nodes in the foreground.
	@exec $(BIN)/ottla up --nodes $(NODES) $(UP)

test: env system  ## Run the whole suite.
	$(PYTEST)

# The tests of what is generated for, or speaks, gRPC: with the oldest runtimes that the package admits.
test-oldest: system $(VENV)-oldest/.made  ## Run the gRPC tests with the oldest grpcio and protobuf that are supported.
	$(VENV)-oldest/bin/python -m tools.run_tests --oldest

$(VENV)-oldest/.made: constraints.txt pyproject.toml tools/oldest.txt
	@test -d $(VENV)-oldest || $(PYTHON) -m venv $(VENV)-oldest
	$(OLDEST_PIP) install --upgrade --constraint constraints.txt pip
	grep -v -i -E '^(grpcio|protobuf)' constraints.txt > $(VENV)-oldest/constraints.txt
	$(OLDEST_PIP) install --constraint $(VENV)-oldest/constraints.txt --editable . --group test \
		--requirement tools/oldest.txt
	@touch $@

# Minutes of what CI runs for seconds, with examples that no run had before.
soak: env  ## Shake the log and the coordinators with many new random histories.
	OTTLA_MODEL_EXAMPLES=3000 OTTLA_MODEL_STEPS=150 OTTLA_REPLICATION_SEEDS=500 CI= $(BIN)/python -m pytest -q -n 2 --timeout=1800 \
		tests/sim tests/unit/coordinators tests/unit/controller tests/unit/raft

rolling: env  ## Restart, grow, shrink and cut the power of a cluster under load, and look for every record.
	$(BIN)/python -m chaos.rolling

transactions: env  ## Copy a topic in transactions for ten minutes while copiers and nodes are killed, with each client.
	$(BIN)/python -m chaos.transactions --client confluent
	$(BIN)/python -m chaos.transactions --client aiokafka

chaos: env  ## Do every fault against every guarantee with every client, about an hour; goes on where it was broken off.
	$(BIN)/python -m chaos.matrix

chaos-kafka: env  ## Send Apache Kafka through the same faults, for comparison (needs Java 17 or newer, and Maven once).
	$(BIN)/python -m chaos.matrix --cluster kafka --clients confluent

chaos-smoke: env  ## Three short runs under faults, one with each client.
	$(BIN)/python -m chaos.matrix --smoke --again --for 15s --results chaos/results/smoke

chaos-convict: env  ## Plant bugs into real nodes, and see that the history of a run under faults convicts each.
	$(BIN)/python -m chaos.planted

stall: env  ## Stall one node's disk for ten seconds under load (Linux, gcc).
	$(BIN)/python -m chaos.stall

# Each outside client on its own. `make test` runs the last four as well.
interop: interop-kafka-python interop-confluent interop-confluent-consumer interop-aiokafka interop-kcat  ## Hold a cluster to outside clients, one after the other.

interop-kafka-python: env  ## Run kafka-python's own integration tests against three nodes.
	$(BIN)/python -m tests.interop.kafka_python

INTEROP := $(BIN)/python -m pytest -q tests/integration tests/interop -p no:xdist -m

interop-confluent: env  ## Run what librdkafka is held to: classic groups, transactions.
	$(INTEROP) confluent

interop-confluent-consumer: env  ## Run what librdkafka is held to with group.protocol=consumer.
	$(INTEROP) confluent_consumer

interop-aiokafka: env  ## Run what aiokafka is held to: groups, transactions.
	$(INTEROP) aiokafka

interop-kcat: env system  ## Run what kcat is held to, also as a member of groups (-G).
	$(INTEROP) kcat

mirror-migration: env  ## Move from Apache Kafka, three brokers, to Ottla and back (needs Java 17 or newer, Maven once).
	$(BIN)/python -m examples.mirror.migration

mirror-denied: env  ## Take rights away from a mirror in an Apache Kafka, one by one (needs Java 17 or newer, Maven once).
	$(BIN)/python -m pytest -q tests/interop/mirror_denied.py -p no:xdist

mirror-java: env  ## Let Java's RemoteClusterUtils look at a mirror (needs Java 17 or newer, and Maven once).
	$(BIN)/python -m tools.mirror_java

# How many histories `make sim` draws: `make sim SEEDS=10000`.
SEEDS ?= 1000

sim: env  ## Simulate quorums and whole clusters under faults, SEEDS histories of each that no run had before.
	$(BIN)/python -m tests.sim.raft.run --seeds $(SEEDS)
	$(BIN)/python -m tests.sim.cluster.run --seeds $(SEEDS)

check: env  ## Check format, lint, types, layers, and that generated files are what makes them.
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tools.protocol.generate --check
	$(BIN)/python -m tools.proto --check
	$(BIN)/python -m tools.docs --check

format: env  ## Format the code and mend what can be mended.
	$(BIN)/ruff check --quiet --fix .
	$(BIN)/ruff format --quiet .

proto: env  ## Generate ottla/v1 from proto/.
	$(BIN)/python -m tools.proto

protocol: env  ## Generate ottla/protocol/messages from the definitions in Kafka's jars (needs Maven).
	$(BIN)/python -m tools.protocol

docs: env  ## Generate docs/configuration.md from the definitions of the configuration.
	$(BIN)/python -m tools.docs

bench: env  ## Measure beside Apache Kafka (needs Java 17 or newer, and Maven once).
	$(BIN)/python -m bench

bench-mirror: env  ## Measure the mirror beside MirrorMaker 2 (needs Java 17 or newer, and Maven once).
	$(BIN)/python -m bench.mirror

wheel-check: env  ## Build the wheel, install it in an empty environment, and use a node from it.
	$(BIN)/python -m tools.wheel_check

# What is mostly downloads, for CI to do beside its checks; one after the other, since both build in this tree.
installs: env
	@$(MAKE) --no-print-directory wheel-check
	@$(MAKE) --no-print-directory $(VENV)-oldest/.made

# Compiled with mypyc, for this machine's kind and this Python; `setup.py` tells which modules. Takes minutes, needs gcc.
wheel: env  ## Build the compiled wheel into dist/: nodes of it take less processor time.
	$(BIN)/python -m tools.compiled_wheel
	@ls dist/*.whl

# From a tree without the package: its sources would hide what is installed.
COMPILED := $(VENV)-compiled
COMPILED_TESTS := $(addprefix tests/unit/,adapters broker coordinators core kafka partitions protocol records) \
	$(addprefix tests/sim/,test_*.py replication cluster) \
	$(addprefix tests/integration/test_,groups_transactions.py kafka_door_fuzz.py node_life.py replication.py transactions.py)
test-compiled: wheel  ## Use the compiled wheel, and hold it to tests of its modules and of whole nodes.
	$(BIN)/python -m tools.wheel_check --compiled --wheel dist/*.whl
	@test -d $(COMPILED) || $(PYTHON) -m venv $(COMPILED)
	$(subst $(BIN),$(COMPILED)/bin,$(PIP)) install --upgrade --constraint constraints.txt pip
	$(subst $(BIN),$(COMPILED)/bin,$(PIP)) install --constraint constraints.txt --force-reinstall --no-deps dist/*.whl
	$(subst $(BIN),$(COMPILED)/bin,$(PIP)) install --constraint constraints.txt dist/*.whl --group test
	rm -rf $(COMPILED)/tree && mkdir $(COMPILED)/tree && cp -r bench chaos examples tests tools pyproject.toml $(COMPILED)/tree
	cd $(COMPILED)/tree && ../bin/python -m pytest -q -m "not interpreted" \
	  --ignore tests/unit/protocol/test_protocol_generator.py $(COMPILED_TESTS)

# System packages that the tests use: kcat, and on Linux libfaketime, which makes the clocks of single nodes false.
FAKETIME := $(wildcard /usr/lib*/*/faketime/libfaketimeMT.so.1 /usr/lib*/faketime/libfaketimeMT.so.1)
system:
	@if ! command -v kcat >/dev/null || { [ "$$(uname)" = Linux ] && [ -z "$(FAKETIME)" ]; }; then \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq kcat libfaketime >/dev/null; \
	  else \
	    echo "The tests need kcat, and on Linux libfaketime. Install them and start again:"; \
	    echo "sudo apt-get install kcat libfaketime  (macOS: brew install kcat)"; \
	    exit 1; \
	  fi; fi

clean:  ## Delete environments and caches; data of nodes stays.
	rm -rf $(VENV) $(VENV)-oldest $(VENV)-proto build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
