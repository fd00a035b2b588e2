"""The Kafka door: frames on sockets to requests of the broker, and its answers to frames. No rule lives here."""
