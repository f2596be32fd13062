"""What a client submitted, checked and brought into one form.

Leniency where real clients differ without harm, an error that names the field where the run could not work.
Sources: WES 1.1.0 ``RunRequest``; docs/clients.md for what real clients send.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from wes_bridge.data.attachments import find_attachment
from wes_bridge.data.workspace import url_path
from wes_bridge.federation.policies.registry import policy_names
from wes_bridge.fetching.addresses import PrivateHosts
from wes_bridge.fetching.errors import RefusedError
from wes_bridge.fetching.guard import Guard
from wes_bridge.fetching.urls import parse_url
from wes_bridge.model.containers import Containers, ContainersError, settled
from wes_bridge.model.preferences import PreferencesError, run_preferences
from wes_bridge.model.run_options import RERUN, OptionsError, run_options
from wes_bridge.model.webhooks import WebhookError, WebhookRequest, hide_secret, read_webhook
from wes_bridge.redaction import redacted
from wes_bridge.wes.body import QUICK, parse_json
from wes_bridge.wes.capabilities import LANGUAGE, VERSIONS
from wes_bridge.wes.errors import BadRequestError
from wes_bridge.wes.threads import Threads

_REQUIRED = ("workflow_type", "workflow_type_version", "workflow_url")
FIELDS = (
    *_REQUIRED,
    "workflow_params",
    "tags",
    "workflow_engine",
    "workflow_engine_version",
    "workflow_engine_parameters",
    "workflow_attachment",
)
_MAX_NAME = 255
_MAX_TAG_KEY = 255


@dataclass(frozen=True)
class Rules:
    """What submissions are checked against.

    Attributes:
        engines: versions by engine.
        files: folders that ``file://`` workflows may come from.
        hosts: private hosts that webhooks may be at.
        containers: what the site says of them.
    """

    engines: Mapping[str, tuple[str, ...]]
    files: tuple[Path, ...] = ()
    hosts: PrivateHosts = field(default_factory=lambda: PrivateHosts(()))
    containers: Containers = "preferred"


@dataclass(frozen=True)
class Submission:
    """A checked submission.

    Attributes:
        request: the ``RunRequest``, as it is stored and echoed.
        tags: of the run.
        workflow_name: the last part of the workflow's URL.
        webhook: where the run is told of; its secret is not in ``request``.
        unknown: fields that mean nothing here.
    """

    request: dict[str, Any]
    tags: dict[str, str]
    workflow_name: str
    webhook: WebhookRequest | None = None
    unknown: tuple[str, ...] = ()


def check(fields: Mapping[str, Any], attached: Callable[[str], bool], rules: Rules) -> Submission:
    """Check a submission.

    Args:
        fields: as sent: text from forms, anything from a JSON body.
        attached: tells whether an attachment of this name came along.
        rules: what the service supports.

    Raises:
        BadRequestError: names the field and what it should be.
    """
    given = {name: value for name, value in fields.items() if value not in (None, "")}
    missing = [name for name in _REQUIRED if name not in given]
    if missing:
        raise BadRequestError(f"required and missing: {', '.join(missing)}")
    tags = _string_map("tags", _object("tags", given))
    url = _text("workflow_url", given)
    parameters = _checked(_parameters(_object("workflow_engine_parameters", given)), rules.containers)
    webhook = _webhook(parameters, rules.hosts)
    request: dict[str, Any] = {
        "workflow_params": _object("workflow_params", given),
        "workflow_type": _language(_text("workflow_type", given)),
        "workflow_type_version": _version(_text("workflow_type_version", given)),
        "tags": tags,
        "workflow_engine_parameters": hide_secret(parameters),
        "workflow_url": url,
    }
    request |= _engine(given, rules.engines)
    _check_url(url, attached, rules.files)
    unknown = tuple(name for name in given if name not in FIELDS)
    return Submission(request, tags, workflow_name(url), webhook, unknown)


async def checked(
    fields: Mapping[str, Any], attached: Callable[[str], bool], rules: Rules, threads: Threads
) -> Submission:
    """As :func:`check`, in a thread where it may take long."""
    if sum(len(text) for text in fields.values() if isinstance(text, str)) <= QUICK:
        return check(fields, attached, rules)
    return await threads.files(check, fields, attached, rules)


def _text(field: str, given: Mapping[str, Any]) -> str:
    value = given[field]
    if not isinstance(value, str):
        raise BadRequestError(f"{field} must be a string")
    if "\0" in value:
        raise BadRequestError(f"{field} has a NUL character")
    return value.strip()


def _object(field: str, given: Mapping[str, Any]) -> dict[str, Any]:
    value = given.get(field, {})
    if isinstance(value, str):
        value = parse_json(field, value) if value.strip() else {}
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadRequestError(f"{field} must be a JSON object, not {_kind(value)}")
    return value


def _kind(value: object) -> str:
    names = {list: "an array", str: "a string", bool: "a boolean"}
    return names.get(type(value), "a number")


def _string_map(field: str, value: dict[str, Any]) -> dict[str, str]:
    for key, item in value.items():
        if not isinstance(item, str):
            raise BadRequestError(f"{field}: the value of {key[:80]!r} must be a string")
        if "\0" in key + item or not 0 < len(key) <= _MAX_TAG_KEY:
            raise BadRequestError(
                f"{field}: {key[:80]!r} is no key of 1 to {_MAX_TAG_KEY} characters, or has a NUL character"
            )
    return value


def _parameters(value: dict[str, Any]) -> dict[str, str]:
    """Engine parameters as strings; a flag without a value (null) becomes an empty one."""
    return {key: _as_string(item) for key, item in value.items()}


def _checked(parameters: dict[str, str], containers: Containers) -> dict[str, str]:
    """Refuse preferences (``policy`` and ``policy.*``) and options that could not be followed."""
    try:
        run_preferences(parameters, policy_names())
        settled(containers, run_options(parameters).containers)
    except (PreferencesError, OptionsError, ContainersError) as error:
        raise BadRequestError(f"workflow_engine_parameters: {error}") from error
    own = next((name for name in parameters if name.startswith(RERUN)), None)
    if own:
        raise BadRequestError(
            f"workflow_engine_parameters: {own[:80]!r} is written by the service; use POST /runs/.../rerun"
        )
    return parameters


def _webhook(parameters: dict[str, str], hosts: PrivateHosts) -> WebhookRequest | None:
    """The webhook; where a name leads is looked at when it is called."""
    try:
        webhook = read_webhook(parameters)
    except WebhookError as error:
        raise BadRequestError(f"workflow_engine_parameters: {error}") from error
    if webhook is not None:
        guard = Guard(hosts)
        try:
            url = guard.check_url(webhook.url)
            if url.host == "localhost":
                guard.check_addresses(url.host, url.port, ["127.0.0.1"])
        except RefusedError as error:
            raise BadRequestError(f"workflow_engine_parameters: webhook: {error}") from error
    return webhook


def _as_string(item: Any) -> str:
    if item is None:
        return ""
    return item if isinstance(item, str) else json.dumps(item, ensure_ascii=False)


def _language(name: str) -> str:
    if name.upper() != LANGUAGE:
        raise BadRequestError(f"workflow_type {name[:40]!r} is not supported; this service runs {LANGUAGE}")
    return name


def _version(version: str) -> str:
    if f"v{version.removeprefix('v')}" not in VERSIONS:
        later = "; what is new in CWL v1.3, such as loop, is not run here" if "1.3" in version else ""
        raise BadRequestError(
            f"workflow_type_version {version[:40]!r} is not supported; this service runs {LANGUAGE} of"
            f" {', '.join(VERSIONS)}{later}"
        )
    return version


def _engine(given: Mapping[str, Any], engines: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    named = {
        field: _text(field, given)
        for field in ("workflow_engine", "workflow_engine_version")
        if field in given
    }
    engine, version = named.get("workflow_engine"), named.get("workflow_engine_version")
    if version and not engine:
        raise BadRequestError("workflow_engine_version needs workflow_engine with it")
    if engine:
        versions = engines.get(engine.lower())
        if versions is None:
            raise BadRequestError(
                f"workflow_engine {engine[:40]!r} is not supported; this service has {', '.join(engines)}"
            )
        if version and version not in versions:
            raise BadRequestError(
                f"workflow_engine_version {version[:40]!r} of {engine} is not supported; this service has"
                f" {', '.join(versions)}"
            )
    return named


def _check_url(url: str, attached: Callable[[str], bool], files: tuple[Path, ...]) -> None:
    if find_attachment(url, attached) is not None:
        return
    try:
        split = urlsplit(url)
        split.port  # noqa: B018 - raises on a bad port
    except ValueError as error:
        raise BadRequestError(f"workflow_url {url[:80]!r} is not a URL: {error}") from error
    if split.scheme in ("http", "https"):
        _check_host(url)
    elif split.scheme == "file":
        _check_file(url, files)
    elif split.scheme == "":
        raise BadRequestError(
            f"workflow_url {url[:80]!r} is relative and no workflow_attachment has that name"
        )
    elif split.scheme != "data":
        allowed = "http, https, data" + (", file" if files else "")
        raise BadRequestError(
            f"workflow_url {url[:80]!r}: scheme {split.scheme!r} is not supported;"
            f" use {allowed} or an attachment"
        )


def _check_host(url: str) -> None:
    """Refuse what can be seen to be wrong now; what a name leads to is looked at when it is fetched."""
    try:
        address = parse_url(url).address
    except RefusedError as error:
        raise BadRequestError(f"workflow_url {redacted(url)[:80]!r}: {error}") from error
    if address and (address.is_link_local or address.is_multicast or address.is_unspecified):
        raise BadRequestError(f"workflow_url {url[:80]!r} leads to an address that nothing is fetched from")


def _check_file(url: str, files: tuple[Path, ...]) -> None:
    try:
        path = url_path(url.partition("#")[0]).resolve()
        if any(path.is_relative_to(folder.resolve()) for folder in files):
            return
    except (ValueError, OSError) as error:
        raise BadRequestError(f"workflow_url {url[:80]!r} names no file here") from error
    raise BadRequestError(
        f"workflow_url {url[:80]!r}: this service does not read that folder; attach the file instead"
    )


def workflow_name(url: str) -> str:
    """The last part of a workflow's URL, without query and fragment: what people know it by."""
    if url.lower().startswith("data:"):
        return "data"
    path = url.partition("#")[0].partition("?")[0].rstrip("/")
    name = unquote(path.rpartition("/")[2], errors="replace")
    return "".join(letter for letter in name if letter.isprintable())[:_MAX_NAME]
