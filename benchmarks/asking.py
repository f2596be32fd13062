"""How long it takes to have offers and choose one: 20 brokers at 200 ms, then one of them hung.

    python benchmarks/asking.py [--rounds 10]

Brokers are real HTTP servers on loopback, in the same process and event loop as what is measured, so that
their own work is in the figures. Measured is from the first request written to the offer chosen.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests.federation.conftest import PLAN
from tests.federation.swarm import swarm
from wes_bridge.federation.asking import Asker
from wes_bridge.federation.choosing import choose
from wes_bridge.federation.client import Broker, http_session
from wes_bridge.federation.health import Health
from wes_bridge.model.units import utcnow

DEADLINE = 1.0


async def measure(name: str, delays: list[float | None], grace: float, rounds: int, limit: str) -> None:
    """Print the median of some rounds; connections are warm, as in a service."""
    async with swarm(delays) as urls, http_session() as http:
        brokers = [Broker(f"node{number}", url, http) for number, url in enumerate(urls)]
        asker = Asker(DEADLINE, grace)
        times = []
        for _ in range(rounds + 1):
            begun = time.perf_counter()
            replies = await asker.ask(brokers, PLAN, None, utcnow())
            choose([c for reply in replies for c in reply.candidates], PLAN.wish, PLAN.name)
            times.append(time.perf_counter() - begun)
            for broker in brokers:
                broker.health = Health()  # else the circuit opens, and the hung one is asked no more
        await asker.close(0.0)
    low, middle, high = min(times[1:]), statistics.median(times[1:]), max(times[1:])
    print(f"{name:44} {1000 * middle:7.1f} ms  ({1000 * low:.1f} to {1000 * high:.1f})  {limit}")


async def choosing(count: int) -> None:
    """Print the processor time of reading and choosing alone."""
    async with swarm([0.0] * count) as urls, http_session() as http:
        brokers = [Broker(f"node{number}", url, http) for number, url in enumerate(urls)]
        replies = await Asker(DEADLINE, DEADLINE).ask(brokers, PLAN, None, utcnow())
    candidates = [c for reply in replies for c in reply.candidates]
    begun = time.process_time()
    for _ in range(1000):
        choose(candidates, PLAN.wish, PLAN.name)
    print(f"{f'choosing one of {count}, processor time':44} {1000 * (time.process_time() - begun):7.1f} us")


async def main(rounds: int) -> None:
    """All of it."""
    await measure("1 broker, answers at once", [0.0], 1.0, rounds, "")
    await measure("20 brokers at 200 ms", [0.2] * 20, 1.0, rounds, "target < 300 ms")
    hung: list[float | None] = [0.2] * 19 + [None]
    await measure(
        "20 at 200 ms, one hung, no grace", hung, DEADLINE, rounds, "target < deadline 1000 + 50 ms"
    )
    await measure("20 at 200 ms, one hung, grace 300 ms", hung, 0.3, rounds, "")
    await choosing(1)
    await choosing(20)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    asyncio.run(main(parser.parse_args().rounds))
