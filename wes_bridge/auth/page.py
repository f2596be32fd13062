"""The page ``/auth``: for people who want to know how to get in here."""

from __future__ import annotations

from html import escape

from wes_bridge.model.access import AuthenticationConfig

INSTRUCTIONS = "/auth"
"""Where it is."""


def instructions(name: str, config: AuthenticationConfig) -> bytes:
    """The page, as HTML.

    Args:
        name: of the server.
        config: who is let in.
    """
    parts = [_issuer(issuer.issuer, issuer.audience[0], issuer.instructions) for issuer in config.oidc]
    if config.basic is not None:
        parts.append(
            "<h2>Name and password</h2><p>The administrator of this server gives you a name and a password."
            " A browser asks for them by itself. Our commands take them from"
            " <code>WES_BRIDGE_AUTH=NAME:PASSWORD</code>; other programs send them as HTTP Basic.</p>"
        )
    if config.keys:
        parts.append(
            "<h2>API keys for machines</h2><p>The administrator of this server makes one with"
            " <code>wes-bridge keys create NAME</code>. It is sent as a bearer token.</p>"
        )
    parts += [
        f"<h2>{escape(plugin.name)}</h2><p>Ask the administrator of this server.</p>"
        for plugin in config.plugins
    ]
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        f"<title>How to get in: {escape(name)}</title><h1>How to get in: {escape(name)}</h1>"
        + "".join(parts)
        + "<h2>With the token</h2><p>Put the token into a file that only you can read and give the file's"
        " name to each command (<code>wes-bridge run --token-file FILE ...</code>), or into the variable"
        " <code>WES_BRIDGE_TOKEN</code>. Other clients send the header"
        " <code>Authorization: Bearer TOKEN</code>.</p></html>"
    ).encode()


def _issuer(issuer: str, audience: str, words: str | None) -> str:
    more = f"<p>{escape(words)}</p>" if words else ""
    return (
        f"<h2>Sign in at {escape(issuer)}</h2><p>Get an access token of"
        f' <a href="{escape(issuer)}">{escape(issuer)}</a> with the audience'
        f" <code>{escape(audience)}</code>.</p>"
        f"{more}"
    )
