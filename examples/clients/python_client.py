"""Submit a workflow, watch it, fetch its outputs, with the Python client.

python python_client.py [URL]        URL of a WES; default: $WES_BRIDGE_URL or http://127.0.0.1:8080
"""

import os
import sys
from pathlib import Path

from wes_bridge import WESClient

HERE = Path(__file__).parent


def main(url: str) -> None:
    """Run hello.cwl on this file."""
    with WESClient(url) as wes:
        print("service:", wes.service_info()["name"])
        run = wes.submit(
            HERE / "hello.cwl",
            {"message": "this example has", "file": {"class": "File", "path": __file__}},
            tags={"example": "python client"},
        )
        print("run:", run)
        state = wes.wait(
            run, timeout=600, on_progress=lambda now: print(f"{now['elapsed']:6.2f} s {now['state']}")
        )
        for task in wes.tasks(run):
            reason = (task.get("placement") or {}).get("reason")
            print(
                f"step {task['name']} ran on {task.get('node')} ({reason}): exit code {task.get('exit_code')}"
            )
        if state != "COMPLETE":
            sys.exit("\n".join(wes.run(run)["run_log"]["system_logs"]))
        outputs = wes.download(run, "results")
        print("answer:", Path(outputs["answer"]["path"]).read_text(), end="")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else os.environ.get("WES_BRIDGE_URL", "http://127.0.0.1:8080"))
