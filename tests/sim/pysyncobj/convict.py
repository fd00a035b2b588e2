"""Runs seeds and says which invariants broke: `python -m tests.sim.pysyncobj.convict --seeds 100`.

One run again, with what happened: `--seed 17 --variant kill`. The own core instead: `--system core`.
"""

import argparse
import sys
from collections.abc import Callable, Iterable

from tests.sim.pysyncobj.core import Core
from tests.sim.pysyncobj.package import Package
from tests.sim.pysyncobj.scenario import Faults, Run, System, Verdict

SYSTEMS: dict[str, Callable[[], System]] = {"pysyncobj": Package, "core": Core}
VARIANTS = {
    "calm": Faults(network=False, kills=False),
    "network": Faults(kills=False),
    "kill": Faults(),
    "power": Faults(power_cuts=True),
}


def judge(system: str, variant: str, seed: int) -> Verdict:
    return Run(SYSTEMS[system](), seed, VARIANTS[variant]).judge()


def replay_command(system: str, variant: str, seed: int) -> str:
    return f"python -m tests.sim.pysyncobj.convict --system {system} --variant {variant} --seed {seed}"


def table(verdicts: Iterable[Verdict]) -> str:
    """Invariant, number of seeds, first seed."""
    by_invariant: dict[str, list[int]] = {}
    runs = convicted = acknowledged = 0
    for verdict in verdicts:
        runs, acknowledged = runs + 1, acknowledged + verdict.acknowledged
        convicted += bool(verdict.broken)
        for invariant in verdict.broken:
            by_invariant.setdefault(invariant, []).append(verdict.seed)
    lines = [f"{'invariant':<55} {'seeds':>5} {'first':>6}"]
    for invariant, seeds in sorted(by_invariant.items(), key=lambda item: -len(item[1])):
        lines.append(f"{invariant:<55} {len(seeds):>5} {seeds[0]:>6}")
    lines.append(f"{convicted} of {runs} seeds broke an invariant; {acknowledged} commands were acknowledged")
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=100, help="run seeds 0 to SEEDS - 1")
    parser.add_argument("--seed", type=int, help="run this one only")
    parser.add_argument("--variant", choices=VARIANTS, help="default: all")
    parser.add_argument("--system", choices=SYSTEMS, default="pysyncobj")
    options = parser.parse_args(arguments)
    for variant in [options.variant] if options.variant else VARIANTS:
        if options.seed is not None:
            verdict = judge(options.system, variant, options.seed)
            breaches = [f"{invariant}: {details}" for invariant, details in verdict.broken.items()]
            print(f"variant {variant}", *breaches or ["nothing broke"], sep="\n")  # noqa: T201
        else:
            verdicts = (judge(options.system, variant, seed) for seed in range(options.seeds))
            print(f"{options.system}, variant {variant}\n{table(verdicts)}\n")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
