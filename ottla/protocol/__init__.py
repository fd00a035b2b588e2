"""Kafka's messages: generated codecs, the primitives they stand on, and the registry of request types. Pure."""
