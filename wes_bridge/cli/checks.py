"""What can be wrong with a configuration although each value by itself is fine."""

from __future__ import annotations

import ipaddress
import os
import re
import shutil
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit

from wes_bridge.cli.settings import Key
from wes_bridge.config import (
    AggregatorConfig,
    FetchConfig,
    NodeConfig,
    NodeFetchConfig,
    ServerConfig,
    ServiceConfig,
)
from wes_bridge.fetching.tls import tls_context
from wes_bridge.model.access import AuthenticationConfig, TlsConfig
from wes_bridge.model.stores import DirectoryWorkspaceConfig, WorkspaceStoreConfig
from wes_bridge.model.units import parse_duration
from wes_bridge.plugging import unreadable

_HOST = re.compile(r"(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_-]+)*\.?$")

Finding = tuple[Key, str]


def check_service(config: ServiceConfig) -> Iterator[Finding]:
    """All findings about a service's configuration: key, and what is wrong and what to do."""
    yield from _folder(("state_dir",), config.state_dir)
    yield from _access(config)
    if config.workspace is not None:
        yield from _folder(("workspace",), config.workspace)
    if config.outputs_store is not None:
        yield from _outputs_store(config.outputs_store)
    yield from _database(config)
    for index, folder in enumerate(config.fetch.files):
        if not folder.is_dir():
            yield ("fetch", "files", index), f"fetch.files[{index}]: {folder} is not a folder here"
    yield from _fetch(config.fetch)
    yield from _names(config)
    yield from _ports(config)
    yield from _choosing(config)
    aggregated = config.aggregator.brokers if config.aggregator else []
    if config.engine.workers and not (config.nodes or config.brokers or config.listings or aggregated):
        yield ("nodes",), "nodes: there are no nodes and no brokers, so no step can run; add one of either"
    for index, node in enumerate(config.nodes):
        yield from ((("nodes", index, *key), text) for key, text in check_node(node, f"nodes[{index}]."))
    if config.aggregator is not None:
        findings = _check_aggregator(config.aggregator, "aggregator.")
        yield from ((("aggregator", *key), text) for key, text in findings)


def check_aggregator(config: AggregatorConfig) -> Iterator[Finding]:
    """All findings about the configuration of an aggregator that runs by itself."""
    if not config.brokers:
        yield ("brokers",), "brokers: there are none to ask; give at least one, for example --broker jbo=URL"
    yield from _check_aggregator(config)


def _check_aggregator(config: AggregatorConfig, prefix: str = "") -> Iterator[Finding]:
    yield from _access(config, prefix)
    if config.state_dir is not None:
        yield from _folder(("state_dir",), config.state_dir, prefix)
    names: dict[str, int] = {}
    for index, broker in enumerate(config.brokers):
        if broker.name in names:
            text = f"{broker.name!r} is the name of brokers[{names[broker.name]}] too"
            yield ("brokers", index, "name"), f"{prefix}brokers[{index}].name: {text}"
        names.setdefault(broker.name, index)
    try:
        parse_duration(config.defaults.duration or "PT1H")
    except ValueError as error:
        yield ("defaults", "duration"), f"{prefix}defaults.duration: {error}"
    for index, entry in enumerate(config.data):
        for place, replica in enumerate(entry.replicas):
            for name in replica.brokers:
                if config.brokers and name not in names:
                    key: Key = ("data", index, "replicas", place, "brokers")
                    where = f"{prefix}data[{index}].replicas[{place}].brokers"
                    yield key, f"{where}: no broker is called {name!r}; known: {', '.join(names)}"


def check_node(config: NodeConfig, prefix: str = "") -> Iterator[Finding]:
    """All findings about a node's configuration."""
    if config.state_dir is not None:
        yield from _folder(("state_dir",), config.state_dir, prefix)
    if config.shows_all_files:
        yield ("host",), f"{prefix}host: {config.shows_all_files}"
    yield from _access(config, prefix)
    if config.fetch is not None:
        yield from _fetch(config.fetch, prefix)
    engine = config.container_engine
    if engine is not None and shutil.which(engine) is None:
        yield (
            ("container_engine",),
            f"{prefix}container_engine: no program {engine!r} here; leave it out to use what there is",
        )
    known = {point.name for point in metadata.entry_points(group="wes_bridge.platforms")}
    for index, platform in enumerate(config.platforms):
        if known and platform not in known:
            yield (
                ("platforms", index),
                f"{prefix}platforms[{index}]: no platform {platform!r};"
                f" installed: {', '.join(sorted(known))}",
            )
    from wes_bridge.node.staging.plugins import findings  # noqa: PLC0415

    for key, text in findings(config):
        yield key, f"{prefix}{text}"
    if config.sandbox == "bwrap" and shutil.which("bwrap") is None:
        yield ("sandbox",), f"{prefix}sandbox: bubblewrap (bwrap) is not installed; install it or use auto"


def _access(config: ServerConfig, prefix: str = "") -> Iterator[Finding]:
    """Who is let in, and by what they are known."""
    if config.stands_open:
        yield ("host",), f"{prefix}host: {config.stands_open}"
    for index, network in enumerate(config.trusted_proxies):
        try:
            ipaddress.ip_network(network, strict=False)
        except ValueError:
            text = f"{network!r} is neither an address nor a network like 10.0.0.0/8"
            yield ("trusted_proxies", index), f"{prefix}trusted_proxies[{index}]: {text}"
    if config.behind_proxy and not config.trusted_proxies:
        text = "behind_proxy is true, so name the addresses of the proxy"
        yield ("trusted_proxies",), f"{prefix}trusted_proxies: {text}"
    yield from _tls(config.tls, prefix)
    if config.audit.on and config.audit.path is not None:
        yield from _audit(config.audit.path, prefix)
    for key, text in _useless(config.authentication):
        yield ("authentication", *key), f"{prefix}authentication.{text}"
    from wes_bridge.auth.methods import findings  # noqa: PLC0415

    for key, text in findings(config.authentication):
        yield ("authentication", *key), f"{prefix}authentication.{text}"


def _audit(path: Path, prefix: str) -> Iterator[Finding]:
    """The log is written in a folder that is there: it is not made."""
    name, folder = f"{prefix}audit.path", path.absolute().parent
    if path.is_dir():
        yield ("audit", "path"), f"{name}: {path} is a folder; name a file"
    elif not folder.is_dir():
        yield ("audit", "path"), f"{name}: {folder} is not a folder; make it, or choose another"
    elif not os.access(folder, os.W_OK | os.X_OK) or (path.exists() and not os.access(path, os.W_OK)):
        yield ("audit", "path"), f"{name}: {path} cannot be written; choose another or change its owner"


def _useless(config: AuthenticationConfig) -> Iterator[Finding]:
    """Names that nothing can ever be called."""
    for index, name in enumerate(config.hosts):
        if not _is_name(name):
            text = f"{name!r} is no name as in a Host header, without scheme, port and path: wes.example.org"
            yield ("hosts", index), f"hosts[{index}]: {text}"
    for index, origin in enumerate(config.cors_origins):
        if not _is_origin(origin):
            text = f"{origin!r} is no origin of web pages, without a path: https://portal.example.org"
            yield ("cors_origins", index), f"cors_origins[{index}]: {text}"
    for index, admin in enumerate(config.admins):
        if not admin.removeprefix("group:").strip():
            text = f"{admin!r} names nobody; give the name of a user, or group:NAME"
            yield ("admins", index), f"admins[{index}]: {text}"


def _is_name(text: str) -> bool:
    try:
        ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return bool(_HOST.match(text.removeprefix("*.")))
    return True


def _is_origin(text: str) -> bool:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return False
    is_bare = parts.path in ("", "/") and not (parts.query or parts.fragment or parts.username)
    is_web = parts.scheme in ("http", "https") and port != 0
    return is_web and is_bare and _is_name(parts.hostname or "") and text.isprintable()


def _tls(config: TlsConfig | None, prefix: str) -> Iterator[Finding]:
    if config is None:
        return
    from wes_bridge.surface.tls import TlsError, server_context  # noqa: PLC0415

    try:
        server_context(config)
    except TlsError as error:
        yield ("tls",), f"{prefix}tls: {error}"


def _choosing(config: ServiceConfig) -> Iterator[Finding]:
    """Policies that there are, secrets that are where they should be, listings that can be read."""
    from wes_bridge.federation.credentials import Credentials, CredentialsError  # noqa: PLC0415
    from wes_bridge.federation.listing import ListingError, parse_listing  # noqa: PLC0415
    from wes_bridge.federation.policies.registry import policy_names  # noqa: PLC0415

    known = policy_names()
    named = ((("policy",), config.engine.policy), (("choosing", "policy"), config.engine.choosing.policy))
    for key, name in named:
        if name is not None and name not in known:
            where = ".".join(("engine", *key))
            yield ("engine", *key), f"{where}: no policy {name!r}; known: {', '.join(known)}"
    secrets = [("brokers", index, broker.credentials) for index, broker in enumerate(config.brokers)]
    secrets += [("listings", index, listing.credentials) for index, listing in enumerate(config.listings)]
    for section, index, credentials in secrets:
        if credentials is not None:
            try:
                Credentials(credentials).header()
            except CredentialsError as error:
                yield (section, index, "credentials"), f"{section}[{index}].credentials: {error}"
    for index, listing in enumerate(config.listings):
        if listing.file is not None:
            try:
                parse_listing(listing.file.read_bytes(), str(listing.file))
            except OSError as error:
                problem = f"{listing.file} cannot be read: {error.strerror}"
                yield ("listings", index, "file"), f"listings[{index}].file: {problem}"
            except ListingError as error:
                yield ("listings", index, "file"), f"listings[{index}].file: {error}"


def _folder(key: Key, path: Path, prefix: str = "") -> Iterator[Finding]:
    existing = path.absolute()
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    name = f"{prefix}{key[-1]}"
    if not existing.is_dir():
        yield key, f"{name}: {existing} is not a folder"
    elif not os.access(existing, os.W_OK | os.X_OK):
        yield key, f"{name}: {existing} cannot be written to; choose another or change its owner"


def _outputs_store(config: WorkspaceStoreConfig) -> Iterator[Finding]:
    if isinstance(config, DirectoryWorkspaceConfig):
        yield from _folder(("outputs_store", "path"), config.path, "outputs_store.")
        return
    from wes_bridge.storage.opening import open_storage  # noqa: PLC0415

    try:
        open_storage(config)
    except OSError as error:
        yield ("outputs_store",), f"outputs_store: {unreadable(error)}"
    except ValueError as error:
        yield ("outputs_store",), f"outputs_store: {error}"


def _database(config: ServiceConfig) -> Iterator[Finding]:
    if config.database is None:
        return
    from sqlalchemy.engine import make_url  # noqa: PLC0415
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError  # noqa: PLC0415

    advice = "use sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME"
    try:
        make_url(config.database).get_dialect().import_dbapi()
    except ArgumentError:
        yield ("database",), f"database: not a database URL; {advice}"
    except NoSuchModuleError as error:
        yield ("database",), f"database: {error}; {advice}"
    except ImportError as error:
        yield (
            ("database",),
            f"database: its driver is not installed ({error}): pip install 'wes-bridge[postgresql]'",
        )


def _fetch(config: FetchConfig | NodeFetchConfig, prefix: str = "") -> Iterator[Finding]:
    for index, host in enumerate(config.private_hosts):
        if not _is_host(host):
            yield (
                ("fetch", "private_hosts", index),
                f"{prefix}fetch.private_hosts[{index}]: {host!r} is neither a host name, a network like"
                " 10.0.0.0/8, nor 'any'",
            )
    if config.ca_file is not None:
        try:
            tls_context(config.ca_file)
        except OSError as error:  # so are TLS's own errors
            why = error.strerror or "it holds no certificates (PEM)"
            yield ("fetch", "ca_file"), f"{prefix}fetch.ca_file: {config.ca_file} is of no use: {why}"


def _is_host(text: str) -> bool:
    if text == "any":
        return True
    name, colon, port = text.rpartition(":")
    if colon and port.isascii() and port.isdigit() and (":" not in name or name.startswith("[")):
        text = name.strip("[]")
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return bool(_HOST.match(text)) and "/" not in text
    return True


def _names(config: ServiceConfig) -> Iterator[Finding]:
    seen: dict[str, str] = {}
    named = (
        ("nodes", [node.name for node in config.nodes]),
        ("brokers", [broker.name for broker in config.brokers]),
        ("aggregator", [config.aggregator.name] if config.aggregator else []),
    )
    for section, names in named:
        for index, name in enumerate(names):
            here = section if section == "aggregator" else f"{section}[{index}]"
            if name in seen:
                yield (section, index, "name"), f"{here}.name: {name!r} is the name of {seen[name]} too"
            seen.setdefault(name, here)


def _ports(config: ServiceConfig) -> Iterator[Finding]:
    taken = {config.port: "the service"} if config.port else {}
    for index, node in enumerate(config.nodes):
        if not node.port:
            continue
        if node.port in taken:
            yield (
                ("nodes", index, "port"),
                f"nodes[{index}].port: {node.port} is the port of {taken[node.port]} too; 0 picks a free one",
            )
        taken.setdefault(node.port, f"nodes[{index}]")
