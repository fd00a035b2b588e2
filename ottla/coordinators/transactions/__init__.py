"""The transaction coordinator (KIP-98, 360, 447, 664, 890): one shard for each partition of `__transaction_state`.

It decides where a transaction ends; that every partition hears of it is the work of the port `MarkerSender`.
"""
