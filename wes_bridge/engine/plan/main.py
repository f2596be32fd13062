"""A process that makes one plan: ``python -m wes_bridge.engine.plan.main``.

It reads a :class:`Job` as JSON from standard input and writes a :class:`Result` as JSON to standard output. A
process of its own, since a workflow is untrusted input: whatever it does to its planner, the service answers
on, and a planner that takes too long is killed.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import select
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr

from wes_bridge.auth.acting import act_for
from wes_bridge.auth.delegation import Handful
from wes_bridge.auth.exchange import Exchangers, handed_over
from wes_bridge.config import ServiceConfig
from wes_bridge.cwl import log, patches
from wes_bridge.cwl.loading import schemas
from wes_bridge.cwl.loading.forks import limit_memory
from wes_bridge.data.workspace import RunFolder
from wes_bridge.engine.plan.planner import RunPlanner
from wes_bridge.federation.asking import REJECT_TIMEOUT
from wes_bridge.federation.brokers import make_broker
from wes_bridge.federation.client import http_session
from wes_bridge.federation.discovery import Directory
from wes_bridge.federation.placing import Federation
from wes_bridge.federation.strangers import Strangers
from wes_bridge.federation.ways import ways_of
from wes_bridge.model.run_plan import PlanError, RunPlan
from wes_bridge.model.units import GIB, MIB
from wes_bridge.redaction import redact_logs

_KILL_AFTER = 5.0
"""Seconds after its time that a planner ends itself, should nobody have killed it."""


_ASIDE = 1024**3
"""Bytes of address space for what is no document: the stacks of threads, the plan."""
_SPARE_LIFE = 600.0
"""Seconds a planner waits for its job."""


class Job(BaseModel):
    """What to plan: a checked ``RunRequest``, the folder that holds its attachments, for whom, and their
    token, where brokers want to see such."""

    config: ServiceConfig
    request: dict[str, Any]
    run_id: str
    folder: Path
    owner: str | None = None
    token: SecretStr = SecretStr("")


class Result(BaseModel):
    """A plan; or, in words for the user, why there is none."""

    plan: RunPlan | None = None
    error: str | None = None
    unsupported: bool = False


def prepare(version: str | None = None) -> None:
    """Put our parts into cwltool, once per process; and read the schema of a CWL version ahead."""
    os.environ["COLUMNS"] = "1000"  # schema-salad folds its messages to this width
    patches.install()
    log.install()
    schemas.preload_kept()
    if version in schemas.VERSIONS:
        schemas.preload(version)


async def make_plan(job: Job) -> Result:
    """Plan with the configuration's brokers and those of its listings. All offers are given back."""
    engine = job.config.engine
    with ThreadPoolExecutor(1, thread_name_prefix="plan") as threads:
        strangers = Strangers(job.config)
        async with http_session(strangers.resolver()) as http, http_session() as issuers:
            token = job.token.get_secret_value()
            tokens = (
                Handful(handed_over(token, ""), Exchangers(job.config.delegation, issuers)) if token else None
            )
            act_for(job.owner, tokens)
            ways = ways_of(job.config, threads, threads)
            brokers = [
                make_broker(broker, http, broker.credentials, ways=ways) for broker in job.config.brokers
            ]
            federation = Federation(
                brokers,
                engine.offer_deadline,
                0.0,
                engine.offer_grace,
                default_duration=engine.default_duration,
                rate=engine.transfer_rate * MIB,
            )
            directory = Directory(brokers, job.config.listings, http, federation.use, strangers, ways=ways)
            await directory.start()
            try:
                planner = RunPlanner(job.config, federation, threads)
                plan = await planner.plan(job.request, job.run_id, RunFolder(job.folder))
                return Result(plan=plan)
            except PlanError as error:
                return Result(error=str(error), unsupported=error.unsupported)
            finally:
                await directory.stop()
                await federation.close(REJECT_TIMEOUT)


def main() -> None:
    """Entry point of the process."""
    gc.disable()  # for one plan there is no need to look for cycles: a sixth of its time
    prepare("v1.2")
    waiting = select.select([sys.stdin], [], [], _SPARE_LIFE)[0]
    text = sys.stdin.buffer.read() if waiting else b""
    if not text:  # nobody wants a plan any more
        return
    job = Job.model_validate_json(text)
    limit_memory(int(job.config.engine.load_memory_gib * GIB) + _ASIDE)
    signal.setitimer(signal.ITIMER_REAL, job.config.engine.plan_timeout + _KILL_AFTER)  # its end: SIGALRM
    logging.basicConfig(
        level=job.config.log_level.upper(), format="%(asctime)s %(name)s %(levelname)s %(message)s"
    )
    redact_logs()
    result = asyncio.run(make_plan(job))
    sys.stdout.write(result.model_dump_json(exclude_none=True))
    sys.stdout.flush()


if __name__ == "__main__":
    main()
