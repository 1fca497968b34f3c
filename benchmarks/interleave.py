"""What the benchmarks share: alternatives that take turns in one process, and parts chosen on the command line.

Turns (A B A B) and processor time are distorted less by a busy machine than one after the other and wall time.
"""

import statistics
import sys
import time
from collections.abc import Callable, Mapping

import torch


def interleave(alternatives: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Processor milliseconds of each alternative in each of `rounds` turns, after one to warm up."""
    times: dict[str, list[float]] = {name: [] for name in alternatives}
    for turn in range(rounds + 1):
        for name, function in alternatives.items():
            start = time.process_time()
            function()
            if turn:
                times[name].append((time.process_time() - start) * 1e3)
    return times


def medians(alternatives: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median processor milliseconds of each alternative over `rounds` turns, after one to warm up."""
    return {name: statistics.median(values) for name, values in interleave(alternatives, rounds).items()}


def run_parts(
    parts: Mapping[str, Callable[[], None]], head: str = "| what | obvious | ours | obvious / ours |"
) -> None:
    """Run the parts that the command line names, all if it names none, on one thread, below a table's head."""
    torch.set_num_threads(1)
    if unknown := set(sys.argv[1:]) - set(parts):
        sys.exit(f"unknown part {', '.join(sorted(unknown))}: choose from {', '.join(parts)}")
    if head:
        print(f"{head}\n|{'---|' * (head.count('|') - 1)}", flush=True)
    for part in sys.argv[1:] or parts:
        parts[part]()
