"""GET /service-info."""

from __future__ import annotations

import contextlib
import json
from importlib import metadata
from typing import Any

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response

from wes_bridge.auth.identity import principal_of
from wes_bridge.auth.page import INSTRUCTIONS
from wes_bridge.auth.principal import NOBODY
from wes_bridge.client_host import EVENTS_TAG, SHARED_FILES_TAG, host_id
from wes_bridge.config import ServiceConfig
from wes_bridge.model.containers import PARAMETER as CONTAINERS
from wes_bridge.model.gaps import FILE, GAPS
from wes_bridge.model.preferences import PREFIX, Preferences
from wes_bridge.model.run_options import SHARE_WITH, SKIP_SCHEMAS
from wes_bridge.model.states import State
from wes_bridge.model.webhooks import SECRET, STATES, URL
from wes_bridge.wes.brokers import BrokerHandlers
from wes_bridge.wes.capabilities import LANGUAGE, VERSIONS, WES_VERSION, engine_versions, protocols
from wes_bridge.wes.document import BASE_PATH
from wes_bridge.wes.service import Service, json_response


class ServiceInfoHandlers:
    """What the service tells of itself."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._brokers = BrokerHandlers(service)
        self._fixed = _fixed_part(service)

    async def get(self, request: Request) -> Response:
        """GetServiceInfo."""
        principal = principal_of(request)
        counts: dict[State, int] = {}
        brokers: object = []
        if principal is not NOBODY:  # strangers learn what it can do, and not what it does
            whose = None if principal.is_admin else principal.name
            counts = await self._service.threads.sql(self._service.totals.by_state, whose)
            brokers = await self._brokers.health(for_admin=principal.is_admin)
        info = self._fixed | {
            "brokers": brokers,
            "system_state_counts": {state.value: counts.get(state, 0) for state in State},
        }
        lacking = await self._service.threads.files(_unenforced, self._service.config)
        if lacking:
            info["unenforced"] = lacking
        root = self._service.links(request).base
        has_users = self._service.config.authentication.has_users
        page = INSTRUCTIONS if has_users else f"{BASE_PATH}/ui/"
        info.setdefault("auth_instructions_url", root.removesuffix(BASE_PATH) + page)
        info.setdefault("documentationUrl", f"{root}/ui/")
        return json_response(info)


def _unenforced(config: ServiceConfig) -> dict[str, list[str]]:
    """What embedded nodes do not enforce, in their own words; they leave it in their folders."""
    found: dict[str, list[str]] = {}
    for node in config.nodes:
        with contextlib.suppress(OSError, ValidationError):
            gaps = GAPS.validate_json((node.state_dir / FILE).read_bytes()) if node.state_dir else []
            if gaps:
                found[node.name] = [gap.text for gap in gaps]
    return found


def _fixed_part(service: Service) -> dict[str, Any]:
    config = service.config
    version = metadata.version("wes-bridge")
    return {
        "id": f"org.wes-bridge.{config.name}",
        "name": config.name,
        "description": "Runs CWL workflows, step by step, on IVOA ExecutionBroker nodes.",
        "type": {"group": "org.ga4gh", "artifact": "wes", "version": WES_VERSION},
        "organization": {"name": config.organization, "url": config.organization_url},
        "version": version,
        "workflow_type_versions": {LANGUAGE: {"workflow_type_version": list(VERSIONS)}},
        "supported_wes_versions": [WES_VERSION],
        "supported_filesystem_protocols": protocols(config),
        "workflow_engine_versions": {
            name: {"workflow_engine_version": list(versions)} for name, versions in engine_versions().items()
        },
        "default_workflow_engine_parameters": [
            {
                "name": "policy",
                "type": "string",
                "default_value": config.engine.choosing.policy or config.engine.policy,
            },
            *_preferences(config),
            {"name": "on_error", "type": "string", "default_value": "stop"},
            {"name": CONTAINERS, "type": "string", "default_value": config.engine.containers},
            {"name": URL, "type": "string", "default_value": ""},
            {"name": SECRET, "type": "string", "default_value": ""},
            {"name": STATES, "type": "string", "default_value": ",".join(config.events.webhook_states)},
            {"name": "reuse", "type": "string", "default_value": config.engine.reuse},
            {"name": "outputs", "type": "string", "default_value": "bring"},
            {"name": SHARE_WITH, "type": "string", "default_value": ""},
            {"name": SKIP_SCHEMAS, "type": "string", "default_value": "off"},
        ],
        **_sign_in(config),
        "tags": _shared_files(config)
        | {
            "software": f"wes-bridge {version}",
            EVENTS_TAG: "1",
            "nodes": ",".join(node.name for node in config.nodes),
            "brokers": ",".join(broker.name for broker in config.brokers),
        },
    }


def _sign_in(config: ServiceConfig) -> dict[str, Any]:
    """Where ``wes-bridge login`` signs people in; left out where it does not."""
    places = [
        {"issuer": one.issuer, "client_id": one.login_client_id, "scope": one.login_scope}
        for one in config.delegation.issuers
        if one.login_client_id
    ]
    return {"sign_in": places} if places else {}


def _preferences(config: ServiceConfig) -> list[dict[str, str]]:
    """Engine parameters with which a run says how nodes are chosen, and what the site has set."""
    said = config.engine.choosing.model_dump(mode="json", exclude_none=True)
    return [
        {
            "name": PREFIX + name,
            "type": "string",
            "default_value": json.dumps(said[name]) if name in said else "",
        }
        for name in Preferences.model_fields
        if name != "policy"
    ]


def _shared_files(config: ServiceConfig) -> dict[str, str]:
    """Tells clients on this machine that they need not upload what this service can read itself."""
    return {SHARED_FILES_TAG: host_id()} if config.fetch.files else {}
