"""The records of `__transaction_state`, as Kafka writes them: a version and the key, a version and the value."""

from struct import Struct
from struct import error as struct_error
from typing import Final

from ottla.coordinators.runtime import CoordinatorRecord
from ottla.coordinators.transactions.transaction import Transaction, to_value
from ottla.core.errors import DecodeError
from ottla.protocol.messages.transaction_log_key import TransactionLogKey
from ottla.protocol.messages.transaction_log_value import TransactionLogValue

KEY_VERSION: Final = 0
VALUE_VERSION: Final = 1  # the first that holds previous and next producer ids (transaction.version 1)

_prefix: Final = Struct(">h")


class TransactionRecordCodec:
    """Records of transactional ids as bytes and back."""

    def encode(self, record: CoordinatorRecord) -> tuple[bytes, bytes | None]:
        key = bytearray(_prefix.pack(KEY_VERSION))
        record.key.encode_into(key, KEY_VERSION)
        if record.value is None:
            return bytes(key), None
        value = bytearray(_prefix.pack(record.value_version))
        record.value.encode_into(value, record.value_version)
        return bytes(key), bytes(value)

    def decode(self, key: bytes, value: bytes | None) -> CoordinatorRecord | None:
        """None for a version of the key that is not known; that of the value must be."""
        try:
            (key_version,) = _prefix.unpack_from(key)
            version = -1 if value is None else _prefix.unpack_from(value)[0]
        except struct_error as error:
            raise DecodeError(f"a record of a transaction without its version: {error}") from None
        if key_version != KEY_VERSION:
            return None
        log_key, _ = TransactionLogKey.decode(key, KEY_VERSION, 2)
        if value is None:
            return CoordinatorRecord(log_key)
        if not TransactionLogValue.MIN_VERSION <= version <= TransactionLogValue.MAX_VERSION:
            raise DecodeError(f"a record of a transaction has the unknown version {version}")
        return CoordinatorRecord(log_key, TransactionLogValue.decode(value, version, 2)[0], version)


def transaction_record(transactional_id: str, transaction: Transaction) -> CoordinatorRecord:
    """The present state of a transactional id."""
    return CoordinatorRecord(TransactionLogKey(transactional_id=transactional_id), to_value(transaction), VALUE_VERSION)


def tombstone(transactional_id: str) -> CoordinatorRecord:
    """The end of a transactional id."""
    return CoordinatorRecord(TransactionLogKey(transactional_id=transactional_id))
