"""What booking costs a node: making offers with a full calendar, and a rush for too few places.

Usage: python benchmarks/booking.py [--bookings 10000] [--requests 500] [--accepts 1000] [--places 100]

Three figures, each with its method printed beside it:
  in the node   offers made by the node's own code in this process, calendar filled at random
  over HTTP     POST /requests to a real node that holds so many accepted sessions, one after another; beside
                it the same node when it was empty
  the rush      so many offers of one slot, all accepted at once; exactly as many as there are places win
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp

from wes_bridge.config import BookingConfig, NodeConfig
from wes_bridge.model import execution_broker as eb
from wes_bridge.model.states import Phase
from wes_bridge.model.units import GIB, format_instant, utcnow
from wes_bridge.node.booking import Booked
from wes_bridge.node.calendar import Amount
from wes_bridge.node.capacity import Capacity
from wes_bridge.node.offers import OfferMaker

SLOTS = {"mode": "slots", "slot": "PT1M", "horizon": "PT24H"}
ACCEPT = eb.dump(eb.phase_update(Phase.ACCEPTED))


def request(duration: str = "PT1H", start: str | None = None) -> eb.ExecutionRequest:
    wish = eb.RequestedSchedule(duration=duration, start=start)
    return eb.ExecutionRequest(
        executable=eb.Executable(
            kind=eb.PROCESS, command=["true"], root="/wb-bench", workdir="/wb-bench/out"
        ),
        compute=eb.Compute(cores=eb.MinMax(min=1, max=4)),
        schedule=eb.RequestedScheduleBlock(requested=wish),
    )


def told(label: str, seconds: list[float]) -> None:
    ordered = sorted(seconds)
    at = {name: ordered[min(len(ordered) - 1, int(len(ordered) * part))] for name, part in PARTS.items()}
    print(f"{label:44}" + "".join(f"  {name} {value * 1000:8.3f} ms" for name, value in at.items()))


PARTS = {"median": 0.5, "p95": 0.95, "p99": 0.99}


def in_the_node(bookings: int, requests: int) -> None:
    """Times off the slots' boundaries are the hard case: twice as many steps as bookings."""
    config = NodeConfig(booking=BookingConfig.model_validate(SLOTS))
    for label, unit in (
        ("in the node, bookings to the minute", 60_000),
        ("in the node, bookings to the ms", 1),
    ):
        capacity = Capacity(1000, 4000 * GIB, 1000)
        booked = Booked(config.booking, capacity, lambda live: None)
        chance = random.Random(1)
        now, day = int(time.time() * 1000), 24 * 3600_000
        taken = []
        while len(booked.calendar) < bookings:
            start = (now + chance.randrange(day - 3600_000)) // unit * unit
            length = chance.randrange(60_000, 3600_000) // unit * unit
            amount = Amount(cores=chance.choice((1, 1, 2, 4)), memory=GIB)
            begin = time.perf_counter()
            booked.calendar.book(str(len(booked.calendar)), amount, start, start + max(unit, length))
            taken.append(time.perf_counter() - begin)
        offers = OfferMaker(config, capacity, booked.planner)
        made = []
        for _ in range(requests):
            asked = request(chance.choice(("PT10M", "PT1H", "PT4H")))
            begin = time.perf_counter()
            offers.make(asked, [])
            made.append(time.perf_counter() - begin)
        told(f"{label}: offers", made)
        told(f"{label}: reserve", taken)


class NodeUnderTest:
    """A node in a process of its own."""

    def __init__(self, folder: str, cores: int) -> None:
        config = {"name": "bench", "platforms": ["process"], "sandbox": "none", "offer_lifetime": 3600}
        config |= {"cores": cores, "memory_gib": 4 * cores, "booking": SLOTS}
        command = [sys.executable, "-m", "wes_bridge.node.main", "--state-dir", folder]
        command += ["--config-json", json.dumps(config), "--end-sessions-on-exit"]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        assert self._process.stdout is not None
        found = re.search(r"http\S+", self._process.stdout.readline())
        assert found
        self.url = found[0]

    def stop(self) -> None:
        self._process.kill()
        self._process.wait(30)


async def ask(http: aiohttp.ClientSession, url: str, asked: eb.ExecutionRequest) -> str:
    async with http.post(f"{url}/requests", json=eb.dump(asked), allow_redirects=False) as answer:
        found = await answer.json()
        return str(found["offers"][0]["meta"]["url"])


async def accept(http: aiohttp.ClientSession, offer: str) -> str:
    async with http.post(offer, json=ACCEPT) as answer:
        return str((await answer.json())["phase"])


def later(chance: random.Random) -> str:
    start = utcnow() + timedelta(minutes=chance.randrange(30, 22 * 60))
    return f"{format_instant(start)}/PT1H"


async def over_http(bookings: int, requests: int) -> None:
    chance = random.Random(2)
    with tempfile.TemporaryDirectory() as folder:
        node = NodeUnderTest(folder, 2000)
        try:
            async with aiohttp.ClientSession() as http:
                told("over HTTP, empty calendar: offers", await timed(http, node.url, requests))
                gate = asyncio.Semaphore(16)

                async def book() -> None:
                    async with gate:
                        offer = await ask(http, node.url, request("PT30M", later(chance)))
                        assert await accept(http, offer) in ("ACCEPTED", "WAITING")

                await asyncio.gather(*(book() for _ in range(bookings)))
                label = f"over HTTP, {bookings} bookings: offers"
                told(label, await timed(http, node.url, requests))
                begin = time.perf_counter()
                async with http.get(f"{node.url}/bookings") as answer:
                    listed = len(await answer.json())
                print(f"GET /bookings: {listed} in {(time.perf_counter() - begin) * 1000:.0f} ms")
        finally:
            node.stop()


async def timed(http: aiohttp.ClientSession, url: str, requests: int) -> list[float]:
    found = []
    for _ in range(requests):
        begin = time.perf_counter()
        await ask(http, url, request())
        found.append(time.perf_counter() - begin)
    return found


async def the_rush(accepts: int, places: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        node = NodeUnderTest(folder, places)
        try:
            connector = aiohttp.TCPConnector(limit=accepts)
            async with aiohttp.ClientSession(connector=connector) as http:
                hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) + timedelta(hours=2)
                one = request("PT1H", f"{format_instant(hour)}/PT0S")
                gate = asyncio.Semaphore(50)

                async def offer() -> str:
                    async with gate:
                        return await ask(http, node.url, one)

                offers = await asyncio.gather(*(offer() for _ in range(accepts)))
                begin = time.perf_counter()
                phases = Counter(await asyncio.gather(*(accept(http, url) for url in offers)))
                took = time.perf_counter() - begin
                won = phases["ACCEPTED"] + phases["WAITING"]
                print(f"the rush: {accepts} acceptances for {places} places in {took:.2f} s: {won} won")
        finally:
            node.stop()
    assert won == places, phases


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bookings", type=int, default=10_000)
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--accepts", type=int, default=1000)
    parser.add_argument("--places", type=int, default=100)
    options = parser.parse_args()
    in_the_node(options.bookings, options.requests)
    asyncio.run(over_http(options.bookings, options.requests))
    asyncio.run(the_rush(options.accepts, options.places))


if __name__ == "__main__":
    main()
