"""`ottla chaos`: workloads and faults on a throw-away cluster, or workloads on a running one; then the verdict."""

import asyncio
import logging
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ottla.cli.durations import parse_period_s
from ottla.cli.exit_codes import Exit
from ottla.cli.output import examples, json_option, print_json, print_table
from ottla.core.errors import ErrorCode, OttlaError

if TYPE_CHECKING:
    from ottla.testing.chaos.result import Result

CLIENTS = ("ottla", "confluent", "aiokafka")


@click.group(
    epilog=examples(
        "ottla chaos run                                 a minute of kills, pauses and restarts on three nodes",
        "ottla chaos run --faults partition --for 2m     in networks of its own (Linux)",
        "ottla chaos faults                              what there is to choose from",
        "ottla chaos check --bootstrap kafka:9092 --client confluent",
    )
)
def chaos() -> None:
    """Break a throw-away cluster, or work on a running one, and judge what clients saw.

    Clients append, read, copy, move money and churn groups, and write down every operation with what they know of its
    outcome. A checker looks in that history for lost and doubled records, wrong order, replicas that differ, reads of
    aborted or uncommitted data, torn transactions, cycles of transactions, lost offsets, and two owners of a partition.
    `run` does faults to a throw-away cluster; `check` runs the same workloads and the same checker on a cluster of
    yours, and touches none of its nodes.

    The exit code is 0 when nothing was found, 1 when a guarantee was broken or something does not come to rest, 2 for
    a wrong option, 3 when the cluster is not reached.
    """


def _workload_option(command: Any) -> Any:
    return click.option(
        "--workload",
        "workloads",
        multiple=True,
        metavar="NAME",
        help="append, copy, groups, bank or table; may be repeated. Without it all run at once.",
    )(command)


def _client_option(command: Any) -> Any:
    return click.option(
        "--client",
        type=click.Choice(CLIENTS),
        default="ottla",
        show_default=True,
        help="The library that works: Ottla's own, librdkafka or aiokafka (pip install 'ottla[chaos]').",
    )(command)


@chaos.command(
    short_help="Do faults to a throw-away cluster, and judge.",
    epilog=examples(
        "ottla chaos run --nodes 3 --for 60s --faults kill,pause,partition --report chaos.html",
        "ottla chaos run --faults kill-leader+slow-links --workload copy --workload bank --client confluent",
        "ottla chaos run --faults zombie-client --seed 7",
    ),
)
@click.option("--nodes", type=click.IntRange(1, 5), default=3, show_default=True, help="Nodes of the cluster.")
@click.option(
    "--for", "duration", default="60s", show_default=True, metavar="DURATION", help="How long there are faults."
)
@click.option(
    "--faults",
    default="kill,pause,rolling-restart",
    show_default=True,
    metavar="NAME,...",
    help="See `ottla chaos faults`; a+b: both at once.",
)
@_workload_option
@_client_option
@click.option("--seed", type=int, help="What is drawn, and when; each run without one has another, and prints it.")
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE.html", help="Write a page.")
@click.option(
    "--dir",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep data, logs and the history here; without it they are deleted when nothing was found.",
)
@json_option
def run(
    *,
    nodes: int,
    duration: str,
    faults: str,
    workloads: tuple[str, ...],
    client: str,
    seed: int | None,
    report: Path | None,
    directory: Path | None,
    as_json: bool,
) -> Exit:
    """Start a throw-away cluster, do faults to it while clients work, and judge what they saw.

    Nodes are real processes with disks of their own. Faults come one after the other, as the seed has them: each is
    held for half a second to two and a half, taken back, and followed by a second of quiet, or three and a half after
    the network was cut; what is joined by `+` comes at once.
    Then everything is healed, and within 45 s replicas must be in sync, groups at the end of what they read, and
    transactions ended. Faults of the network are done in a network of the run's own: nothing of this machine's is
    touched. Ctrl-C ends everything that was made.
    """
    from ottla.testing.chaos.own_cluster import chosen_faults, run_on_own_cluster, step_into_network
    from ottla.testing.chaos.run import Plan

    _check_report(report)
    plan = Plan(
        client=client,
        workloads=_workloads(workloads),
        faults=tuple(chosen_faults(faults.split(","))),
        seconds=parse_period_s(duration, "--for"),
        seed=int(time.time()) if seed is None else seed,
        replication_factor=min(nodes, 3),
    )
    step_into_network(plan.faults, [sys.executable, "-m", "ottla.cli", *sys.argv[1:]])
    tell = _teller(as_json)
    with _folder(directory) as kept:
        tell(f"seed {plan.seed}, data in {kept}")
        result = _to_end(run_on_own_cluster(plan, kept, nodes, tell))
    return _conclude(result, report, kept, as_json=as_json, delete=directory is None)


@chaos.command(
    short_help="Work on a running cluster, and judge.",
    epilog=examples(
        "ottla chaos check --bootstrap localhost:10092 --for 5m",
        "ottla chaos check --bootstrap broker1:9092,broker2:9092 --client confluent --prefix try-",
    ),
)
@click.option(
    "--bootstrap",
    required=True,
    metavar="HOST:PORT,...",
    help="The cluster: gRPC addresses (Kafka's ports + 1000) with --client ottla, else Kafka's.",
)
@click.option("--for", "duration", default="60s", show_default=True, metavar="DURATION", help="How long clients work.")
@_workload_option
@_client_option
@click.option("--prefix", help="What its topics, groups and transactional ids begin with.  [default: chaos-RANDOM-]")
@click.option("--replication-factor", type=click.IntRange(1), default=3, show_default=True, help="Of its topics.")
@click.option("--keep", is_flag=True, help="Do not delete its topics afterwards.")
@click.option("--tls-ca", metavar="FILE", help="Speak TLS; the authority (PEM) that signs for the nodes.")
@click.option("--tls-certificate", metavar="FILE", help="This client's certificate; with --tls-key.")
@click.option("--tls-key", metavar="FILE", help="Its private key.")
@click.option("--seed", type=int, help="What clients draw: amounts, aborts, when members go.")
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE.html", help="Write a page.")
@click.option(
    "--dir", "directory", type=click.Path(file_okay=False, path_type=Path), help="Keep logs and the history here."
)
@json_option
def check(
    *,
    bootstrap: str,
    duration: str,
    workloads: tuple[str, ...],
    client: str,
    prefix: str | None,
    replication_factor: int,
    keep: bool,
    tls_ca: str | None,
    tls_certificate: str | None,
    tls_key: str | None,
    seed: int | None,
    report: Path | None,
    directory: Path | None,
    as_json: bool,
) -> Exit:
    """Run workloads and checker against a running cluster, Ottla or Apache Kafka, without touching its nodes.

    Harm the cluster by your own means meanwhile, or not at all. Topics have a prefix of their own and are deleted at
    the end; nothing else of the cluster is read or changed.
    """
    from ottla.testing.chaos.clients.port import Address
    from ottla.testing.chaos.run import Plan, check_cluster

    _check_report(report)
    seed = int(time.time()) if seed is None else seed
    plan = Plan(
        client=client,
        workloads=_workloads(workloads),
        seconds=parse_period_s(duration, "--for"),
        seed=seed,
        prefix=f"chaos-{seed:x}-" if prefix is None else prefix,
        replication_factor=replication_factor,
    )
    address = Address(
        bootstrap="" if client == "ottla" else bootstrap,
        grpc=bootstrap if client == "ottla" else "",
        ca_file=tls_ca,
        certificate_file=tls_certificate,
        key_file=tls_key,
    )
    tell = _teller(as_json)
    with _folder(directory) as kept:
        tell(f"seed {seed}, history in {kept}")
        result = _to_end(check_cluster(plan, address, kept, tell, keep=keep))
    return _conclude(result, report, kept, as_json=as_json, delete=directory is None)


@chaos.command(short_help="List faults, and what they lack here.")
def faults() -> None:
    """List the faults, and which of them this machine, as it is, cannot do."""
    from ottla.testing.chaos.needs import Unavailable
    from ottla.testing.chaos.own_cluster import ALL, GROUPS, check_needs

    rows = []
    for name, kind in ALL.items():
        lacks = ""
        try:
            check_needs(name)
        except Unavailable as error:
            lacks = str(error)
        rows.append((name, kind.description, lacks))
    print_table(("fault", "what it does", "lacks here"), rows)
    for name, members in GROUPS.items():
        click.echo(f"{name}: each of {', '.join(members)}")


def _check_report(report: Path | None) -> None:
    """Before minutes of work, of which nothing would be told."""
    if report is not None and not report.resolve().parent.is_dir():
        raise click.UsageError(f"--report {report}: there is no folder {report.parent}")


def _workloads(names: tuple[str, ...]) -> tuple[str, ...]:
    from ottla.testing.chaos.workloads import workloads

    return tuple(one.name for one in workloads(names))


@contextmanager
def _folder(directory: Path | None) -> Iterator[Path]:
    """Where the run keeps its things. One of its own goes when the run is interrupted, or could not begin."""
    kept = directory or Path(tempfile.mkdtemp(prefix="ottla-chaos-"))
    try:
        yield kept
    except (KeyboardInterrupt, NotReached):
        if directory is None:
            shutil.rmtree(kept, ignore_errors=True)
        raise


def _teller(as_json: bool) -> Any:
    began = time.monotonic()
    return lambda text: click.echo(f"{time.monotonic() - began:6.1f}  {text}", err=as_json)


class ChaosError(OttlaError):
    """The run could not be done: no verdict."""


class NotReached(ChaosError):
    """Nor was anything begun."""

    code = ErrorCode.NETWORK_EXCEPTION  # of which the exit code is made
    hint = (
        "--bootstrap takes gRPC ports with --client ottla (Kafka's + 1000), else Kafka's; --tls-ca where it speaks TLS"
    )


def _to_end(work: "Coroutine[Any, Any, Result]") -> "Result":
    """Run it; on Ctrl-C and SIGTERM it first takes away what it made."""
    from ottla.testing.chaos.clients.port import Failure
    from ottla.testing.chaos.crew import CrewError
    from ottla.testing.chaos.run import Unreached
    from ottla.testing.cluster import ClusterError

    # It logs each retry as an error; what concerns the run is raised to it.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)

    async def cancellable() -> "Result":
        task = asyncio.current_task()
        assert task is not None
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        return await work

    try:
        return asyncio.run(cancellable())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    except Unreached as error:
        raise NotReached(f"the cluster is not reached: {error}") from error
    except Failure as error:
        raise ChaosError(f"the cluster cannot be worked with: {error}") from error
    except (CrewError, ClusterError) as error:
        raise ChaosError(str(error)) from error


def _conclude(result: "Result", report: Path | None, kept: Path, *, as_json: bool, delete: bool) -> Exit:
    from dataclasses import asdict

    from ottla.testing.chaos.report import page
    from ottla.testing.chaos.result import Standing
    from ottla.testing.chaos.summary import summary

    if report is not None:
        report.write_text(page([result]))
    bad = result.standing in (Standing.ANOMALY, Standing.STUCK)
    if as_json:
        print_json({**asdict(result), "standing": result.standing})
    else:
        click.echo(summary(result))
        if result.faults and not result.windows:
            click.echo("  No fault was done: --for is too short for one.")
        if report is not None:
            click.echo(f"The report: {report}")
    if delete and not bad:
        shutil.rmtree(kept, ignore_errors=True)
    elif not as_json:
        click.echo(f"Data, logs and history: {kept}")
    return Exit.FAILED if bad else Exit.DONE
