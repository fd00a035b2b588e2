"""Whole clusters of production nodes in the simulator: quorum, controller, broker, replication, clients, and faults."""
