"""Planning on this machine: own nodes are started, asked and stopped; brokers elsewhere are asked.

No service is needed: the plan is made in this process, for the user's own files.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import tempfile
from pathlib import Path
from typing import Any

from wes_bridge.auth.private import VARIABLE
from wes_bridge.bundle import Bundle
from wes_bridge.cli.children import Child, ChildError
from wes_bridge.cli.supervisor import complete, node_child
from wes_bridge.config import FetchConfig, ServiceConfig
from wes_bridge.model.run_plan import PlanError, RunPlan


def plan_here(bundle: Bundle, parameters: dict[str, str], settings: ServiceConfig) -> RunPlan:
    """The plan of a local workflow.

    Args:
        bundle: with paths of this machine.
        parameters: engine parameters.
        settings: whose brokers and nodes are asked.

    Raises:
        PlanError: it cannot be made.
    """
    os.environ.setdefault(VARIABLE, secrets.token_hex(32))  # nobody else here may use these nodes
    folder = Path(tempfile.mkdtemp(prefix="wes-bridge-plan-"))
    try:
        return asyncio.run(_plan(_private(settings, folder), bundle, parameters, folder))
    except ChildError as error:
        raise PlanError(f"a private node could not be started: {error}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _private(settings: ServiceConfig, folder: Path) -> ServiceConfig:
    """The same with a state of its own, so that a service that runs is not disturbed; the user's files may be
    read, since it is the user who asks."""
    apart = {"port": 0, "host": "127.0.0.1", "public_url": None, "state_dir": None}
    limits = settings.fetch.model_dump() | {
        "files": [Path("/")],
        "only_named": True,
        "private_hosts": ["any"],
    }
    return settings.model_copy(
        update={
            "state_dir": folder,
            "database": None,
            "workspace": None,
            "aggregator": None,
            "nodes": [node.model_copy(update=apart) for node in settings.nodes],
            "fetch": FetchConfig(**limits),
        }
    )


async def _plan(settings: ServiceConfig, bundle: Bundle, parameters: dict[str, str], folder: Path) -> RunPlan:
    config = complete(settings, 0)
    children: list[Child] = [node_child(node, config, True) for node in config.nodes]
    try:
        await asyncio.sleep(0.01)  # the nodes are on their way before this process imports anything
        from wes_bridge.engine.plan.main import Job, make_plan, prepare  # noqa: PLC0415

        warm = asyncio.create_task(asyncio.to_thread(prepare, bundle.version))
        request: dict[str, Any] = {
            "workflow_url": bundle.workflow_url,
            "workflow_params": bundle.params,
            "workflow_engine_parameters": parameters,
        }
        await asyncio.gather(warm, *(child.ready() for child in children))
        job = Job(config=config, request=request, run_id="plan", folder=folder / "run")
        async with asyncio.timeout(config.engine.plan_timeout):
            result = await make_plan(job)
    except TimeoutError as error:
        raise PlanError(
            f"the plan took longer than {config.engine.plan_timeout:g} s (engine.plan_timeout)"
        ) from error
    finally:
        await asyncio.gather(*(child.stop() for child in children), return_exceptions=True)
    if result.plan is None:
        raise PlanError(result.error or "the plan cannot be made", unsupported=result.unsupported)
    return result.plan
