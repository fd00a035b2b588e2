"""New producer ids come from elsewhere, and later: a decision that needs one is taken again when it is there."""


class ProducerIdNeeded(Exception):
    """Nothing has changed: get a new producer id, and decide again with it in hand."""


def new_id(producer_id: int | None) -> int:
    """The new producer id, if it is there; raises ProducerIdNeeded."""
    if producer_id is None:
        raise ProducerIdNeeded
    return producer_id
