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
