"""What clients do during a run. Each workload has a module, its topics have names of their own, and all run at once."""

from ottla.testing.chaos.workloads.plan import WORKLOADS, Role, Workload, expectations, workloads

__all__ = ["WORKLOADS", "Role", "Workload", "expectations", "workloads"]
