"""Scenarios: a name, a function, a time limit; run one after another, one line each."""

import asyncio
import sys
import time
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

Figures = str | None


@dataclass(frozen=True)
class Scenario:
    """One thing that must hold. Its function returns what was measured, if anything."""

    name: str
    run: Callable[[], Awaitable[Figures]]
    seconds: float


@dataclass
class Suite:
    """Scenarios that share servers: `open` starts them, `close` ends them."""

    name: str
    scenarios: list[Scenario] = field(default_factory=list)

    def scenario(self, function: Callable[[], Awaitable[Figures]], seconds: float = 60.0) -> None:
        """Adds a scenario; its name is the function's, read as a sentence."""
        name = f"{self.name}: {function.__name__.replace('_', ' ').strip()}"
        self.scenarios.append(Scenario(name, function, seconds))


class Runner:
    """Runs, prints, counts."""

    def __init__(self, wanted: list[str]) -> None:
        self.wanted = wanted
        self.passed = 0
        self.failed: list[str] = []

    def wants(self, suite: Suite) -> list[Scenario]:
        """Those of the suite that were asked for."""
        if not self.wanted:
            return suite.scenarios
        return [s for s in suite.scenarios if any(word in s.name for word in self.wanted)]

    async def run(self, scenario: Scenario) -> None:
        """Runs one; a failure is printed and remembered."""
        started = time.monotonic()
        figures: Figures = None
        problem = ""
        try:
            figures = await asyncio.wait_for(scenario.run(), scenario.seconds)
        except TimeoutError:
            problem = f"not done within {scenario.seconds:.0f} s\n{traceback.format_exc(limit=-3)}"
        except Exception:  # every failure of a scenario is its result
            problem = traceback.format_exc(limit=-4)
        took = time.monotonic() - started
        if problem:
            self.failed.append(scenario.name)
            print(f"FAILED  {took:6.2f} s  {scenario.name}")
            print("".join(f"        {line}\n" for line in problem.strip().splitlines()), end="")
        else:
            self.passed += 1
            print(f"ok      {took:6.2f} s  {scenario.name}" + (f"  [{figures}]" if figures else ""))
        sys.stdout.flush()

    def report(self) -> int:
        """Prints the sum; returns the exit status."""
        print(f"{self.passed} scenarios passed, {len(self.failed)} failed")
        return 1 if self.failed or not self.passed else 0


def quantiles(seconds: list[float]) -> str:
    """min / median / p99 / max of times, in milliseconds."""
    ordered = sorted(value * 1000 for value in seconds)

    def at(share: float) -> float:
        return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]

    return f"min {at(0):.1f} / median {at(0.5):.1f} / p99 {at(0.99):.1f} / max {at(1):.1f} ms, n={len(ordered)}"
