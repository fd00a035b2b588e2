"""The client's transport over the Kafka protocol, so that producer, consumer, admin and mirror also reach Apache Kafka.

A small client of our own on `ottla.protocol`, because the port hands over whole record batches and needs no more than
connections: confluent-kafka and aiokafka give and take single records (figures in ARCHITECTURE.md).
"""
