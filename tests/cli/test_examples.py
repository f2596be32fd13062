"""The client examples do what they say."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples" / "clients"
pytestmark = pytest.mark.slow


@pytest.mark.parametrize("script", ["python_client.py", "curl.sh"])
def test_example(script: str, service_url: str, environment: dict[str, str], tmp_path: Path) -> None:
    if script.endswith(".sh") and not shutil.which("curl"):
        pytest.skip("no curl here")
    words = [sys.executable] if script.endswith(".py") else ["sh"]
    done = subprocess.run(
        [*words, str(EXAMPLES / script), service_url],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    size = (EXAMPLES / script).stat().st_size
    assert f"this example has: {size} bytes" in done.stdout


def test_sites_that_share_nothing(environment: dict[str, str], tmp_path: Path) -> None:
    if not shutil.which("curl"):
        pytest.skip("no curl here")
    path = f"{Path(sys.executable).parent}:{environment['PATH']}"
    plain = {name: text for name, text in environment.items() if name != "WES_BRIDGE_NODES"}
    done = subprocess.run(
        [str(EXAMPLES.parent / "share-nothing" / "run.sh")],
        cwd=tmp_path,
        env=plain | {"PATH": path, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('"kept": {"outputs": 0') == 2
    assert (tmp_path / "outputs" / "words.txt").read_text().split()
