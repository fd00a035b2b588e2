"""`ottla tls`: certificates for trials, and how clients use them."""

from pathlib import Path

import click

from ottla.node.certificates import LOOPBACK, Certificates
from ottla.node.founding import MAX_NODES


@click.group()
def tls() -> None:
    """Make certificates for a trial."""


@tls.command()
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Where they are written; an authority that is there already signs the new ones.",
)
@click.option(
    "--hosts",
    default=",".join(LOOPBACK),
    show_default=True,
    metavar="NAME,...",
    help="Every host name and address by which clients and other nodes reach the nodes.",
)
@click.option(
    "--nodes", default=1, show_default=True, type=click.IntRange(1, MAX_NODES), metavar="N", help="How many nodes."
)
def create(*, directory: Path, hosts: str, nodes: int) -> None:
    """Make a private authority, a certificate for each node and one for clients; done again, it renews them."""
    certificates = Certificates(directory)
    certificates.create([host for host in hosts.split(",") if host.strip()], nodes)
    click.echo(f"Certificates for {hosts} in {directory}. Keep ca.key: whoever has it can join clients and nodes.\n")
    for number in range(1, nodes + 1):
        pair = certificates.node(number)
        click.echo(
            f"Node {number}:\n"
            f"  listeners = SSL://HOST:9093\n"
            f"  tls_certificate = {pair.certificate}\n"
            f"  tls_key = {pair.key}\n"
            f"  tls_ca = {certificates.ca}"
        )
    show_client_settings(certificates)


def show_client_settings(certificates: Certificates) -> None:
    """What clients need."""
    ca, client = certificates.ca, certificates.client
    click.echo(
        "\nClients (kcat and librdkafka, Java, ottla):\n"
        f"  security.protocol=SSL ssl.ca.location={ca}\n"
        f"  security.protocol=SSL ssl.truststore.type=PEM ssl.truststore.location={ca}\n"
        f"  --tls-ca {ca}, or OTTLA_TLS_CA\n"
        f"Where nodes ask for a certificate (tls_client_auth): {client.certificate} and {client.key}"
    )
