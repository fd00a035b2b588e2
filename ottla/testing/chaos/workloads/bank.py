"""A bank: tellers move money between accounts, both entries of a transfer in one transaction, some aborted on purpose.

An entry's key is the account, its value `transaction|amount`. A teller knows the balances from reading committed
entries, and pays nothing out that an account does not have, as far as it knows.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Final

from ottla.testing.chaos.clients.port import At, Consumer, Failure, Producer, Read, Remedy, Topic
from ottla.testing.chaos.workloads.scene import RETRY_S, Log, Scene
from ottla.testing.history import Seen, now_ns

TOPIC: Final = "bank"
PARTITIONS: Final = 4
ACCOUNTS: Final = 8
START: Final = 100  # what each account has before its first entry
TOTAL: Final = ACCOUNTS * START
ABORTS: Final = 0.1
PERIOD_S: Final = 0.2
TRANSACTION_TIMEOUT_S: Final = 8.0


def topics(prefix: str, replication_factor: int) -> list[Topic]:
    """The ledger."""
    return [Topic(name=f"{prefix}{TOPIC}", partitions=PARTITIONS, replication_factor=replication_factor)]


def seen(record: Read) -> Seen:
    """An entry, with its transaction."""
    transaction, _, _ = (record.value or "").rpartition("|")
    return Seen(record.topic, record.partition, record.offset, record.value, record.key, transaction)


def balances(entries: Iterable[Read]) -> dict[str, str]:
    """What each account has after these."""
    found = Counter({str(account): START for account in range(ACCOUNTS)})
    for one in entries:
        found[one.key or ""] += int((one.value or "").rpartition("|")[2])
    return {account: str(balance) for account, balance in found.items()}


async def tell(scene: Scene) -> None:
    """Move money until it is calm; a teller that fails for good is begun anew."""
    while not scene.calm.is_set():
        log = scene.new_log("teller")
        producer: Producer | None = None
        consumer: Consumer | None = None
        try:
            producer = await scene.library.producer(scene.topic(f"teller-{scene.role}"), TRANSACTION_TIMEOUT_S)
            ledger = [At(scene.topic(TOPIC), n) for n in range(PARTITIONS)]
            consumer = await scene.library.consumer(assigned=ledger, committed_only=True)
            log.takes(ledger)
            await _tell(scene, log, producer, consumer)
        except Failure:
            await scene.pause(RETRY_S, scene.calm)
        finally:
            if consumer is not None:
                await consumer.close()
            if producer is not None:
                await producer.close()


async def _tell(scene: Scene, log: Log, producer: Producer, consumer: Consumer) -> None:
    known = Counter({str(account): START for account in range(ACCOUNTS)})
    number = 0
    while not await scene.pause(PERIOD_S, scene.calm):
        number += 1
        transaction = f"{log.process}#{number}"
        since = now_ns()
        try:
            entries = await consumer.poll(0.02)
        except Failure as error:
            if error.remedy is Remedy.RETRY:
                continue
            raise
        if entries:
            log.polled(since, [seen(one) for one in entries], committed=True, transaction=transaction)
        for one in entries:
            known[one.key or ""] += int((one.value or "").rpartition("|")[2])
        rich = [account for account, balance in known.items() if balance > 0]
        payer = scene.random.choice(rich)
        payee = scene.random.choice([account for account in known if account != payer])
        await _transfer(scene, log, producer, transaction, {payer: -1, payee: 1}, scene.random.randint(1, known[payer]))


async def _transfer(
    scene: Scene, log: Log, producer: Producer, transaction: str, signs: dict[str, int], amount: int
) -> None:
    abort = scene.random.random() < ABORTS
    log.begin(transaction, scene.topic(f"teller-{scene.role}"))
    await producer.begin()
    try:
        for account, sign in signs.items():
            at = At(scene.topic(TOPIC), int(account) % PARTITIONS)
            await log.send(producer, at, f"{transaction}|{sign * amount}", account, transaction=transaction)
        if abort:
            await producer.flush()
        await log.end(producer, transaction, commit=not abort)
    except Failure as error:
        if error.remedy is not Remedy.ABORT:
            raise
        await log.end(producer, transaction, commit=False)
