"""Passwords, tokens and signatures are in no message, log or traceback; other words stay as they are."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.node.conftest import ROOT, Request, Starter, shell, texts
from tests.security.hostile_web import hostile_web
from wes_bridge.client import WESError
from wes_bridge.config import FetchConfig
from wes_bridge.cwl.files.policy import Policy, fetch_http
from wes_bridge.engine.runlog import RunLog
from wes_bridge.redaction import redacted

S = "s3cr3t-Canary_42"
SECRET = [
    f"https://user:{S}@host.org/x",
    f"cannot read https://{S}@host.org:8443/a b",
    f"https://user:{S}@home@host.org/x",
    f"postgresql+psycopg://wes:{S}@db/wes",
    f"s3://key:{S}@bucket/x",
    f"https://h/x?access_token={S}",
    f"https://h/x?a=1&token={S}&b=2",
    f"https://h/x#id_token={S}",
    f"https://h/x?X-Amz-Credential={S}&X-Amz-Signature={S}&X-Amz-Security-Token={S}",
    f"https://h/x?sv=1&sig={S}",
    f"https://h/x?GoogleAccessId=a&Signature={S}",
    f"https://h/x?AWSAccessKeyId={S}",
    f"https://h/x?api_key={S}",
    f"https://h/cb?code={S}",
    f"grant_type=x&refresh_token={S}",
    f"subject_token={S}",
    f'{{"access_token": "{S}", "expires_in": 3}}',
    f"{{'client_secret': '{S}'}}",
    f"Authorization: Bearer {S}",
    f"Authorization: Basic {S}",
    f'{{"authorization": "Bearer {S}"}}',
    f"sent headers: bearer eyJhbGciOiJSUzI1NiJ9.{S}.x1",
]
PLAIN = [
    "https://host.org/x?page=2&q=a@b.org#part",
    "give it as KEY=VALUE",
    "the step needs a bearer token, or HTTP Basic authentication",
    "file:///home/me/a@b.txt",
    "mail me@example.org",
    "registry.org/image@sha256:0123456789abcdef",
    "w.cwl:3: key 'a' is given twice",
    "the password must have 16 characters",
    "cores=4; memory=8",
    "http://[::1]:8080/ga4gh/wes/v1",
    "it is a token of 12 words",
]


@pytest.mark.parametrize("text", SECRET)
def test_secrets_are_hidden(text: str) -> None:
    said = redacted(text)
    assert S not in said
    assert "***" in said
    assert redacted(said) == said


@pytest.mark.parametrize("text", PLAIN)
def test_other_words_stay(text: str) -> None:
    assert redacted(text) == text


@given(st.text(max_size=200))
def test_any_text_can_be_redacted(text: str) -> None:
    redacted(text)


@pytest.mark.parametrize(
    "part", ["a://", "?token=", "@", "bearer ", "authorization: ", '"id_token":"', "x://a@", "&a"]
)
def test_it_takes_linear_time(part: str) -> None:
    started = time.process_time()
    redacted(part * 20_000)
    redacted(part + "x" * 200_000)
    assert time.process_time() - started < 3


def test_all_that_is_logged_is_redacted() -> None:
    program = f"""
import logging
from wes_bridge.redaction import redact_logs
logging.basicConfig(level="INFO")
redact_logs()
other = logging.getLogger("other")
other.addHandler(logging.StreamHandler())
other.warning("connecting to %s", "https://user:{S}@host/")
try:
    raise ValueError("https://user:{S}@host/?token={S}")
except ValueError:
    logging.exception("no")
"""
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stderr
    assert "https://***@host/" in said
    assert "Traceback" in said
    assert S not in said


def test_a_run_s_log_is_redacted(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "log", tmp_path)
    log.error(f"no answer from https://user:{S}@host/?token={S}")
    log.close()
    assert S not in (tmp_path / "log").read_text() + repr(log.errors)


def test_errors_of_documents_are_redacted() -> None:
    with hostile_web({}) as web, pytest.raises(Exception, match="404") as caught:
        named = web.url.replace("://", f"://user:{S}@")
        fetch_http(f"{named}/x?token={S}", Policy(FetchConfig(private_hosts=["any"]), []))
    assert S not in str(caught.value)


def test_a_node_s_messages_are_redacted(start_node: Starter) -> None:
    node = start_node()
    with hostile_web({}) as web:
        named = web.url.replace("://", f"://user:{S}@")
        session = node.run(Request(shell("true")).data(f"{ROOT}/in/x", f"{named}/x?token={S}"))
    assert "404" in texts(session)
    assert S not in texts(session) + json.dumps(session["meta"])
    refused = node.refused(
        Request(shell("true")).data(f"{ROOT}/in/x", f"http://user:{S}@10.0.0.1/?token={S}")
    )
    assert S not in json.dumps(refused)


def test_the_client_s_errors_are_redacted() -> None:
    assert S not in str(WESError(f"GET https://user:{S}@host/: 404")) + WESError(f"https://a:{S}@h/").msg
