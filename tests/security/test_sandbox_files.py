"""What a hostile step can see, load and change of the machine, in each of the sandboxes.

Each test asks a real node whose settings are the defaults. Canaries are looked at afterwards.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.node.conftest import NodeProcess, Request, Starter, process, shell, texts
from tests.waiting import until

SANDBOXES = ["own", pytest.param("bwrap", marks=pytest.mark.bwrap)]
SECRET = "the-secret-of-this-user"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home folder with what people have there; not below /tmp, which is private in a sandbox anyway."""
    base = Path("/var/tmp")
    folder = base / f"wb-home-{os.getpid()}"
    for name in (".ssh/id_rsa", ".aws/credentials", "thesis.tex", ".local/share/keyrings/login.keyring"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(SECRET)
    _program(folder / ".local/bin/survey-tool", "cat $(dirname $0)/../lib/survey/data")
    (folder / ".local/lib/survey").mkdir(parents=True)
    (folder / ".local/lib/survey/data").write_text("catalogue\n")
    _program(folder / "bin/my-script", "echo mine")
    environment = folder / ".local/share/pipx/venvs/fits"
    _program(environment / "bin/fits-tool", "cat $(dirname $(readlink -f $0))/../share/data")
    (environment / "pyvenv.cfg").write_text("home = /usr/bin\n")
    (environment / "share").mkdir()
    (environment / "share/data").write_text("pixels\n")
    (folder / ".local/bin/fits-tool").symlink_to(environment / "bin/fits-tool")
    _program(folder / "casa-6/bin/casa", "cat $(dirname $0)/../lib/measures")
    (folder / "casa-6/lib").mkdir()
    (folder / "casa-6/lib/measures").write_text("measures\n")
    yield folder
    subprocess.run(["rm", "-rf", str(folder)], check=True)


def _program(path: Path, script: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.fixture(scope="module", params=SANDBOXES)
def node(request: pytest.FixtureRequest, start_node: Starter, home: Path) -> NodeProcess:
    """A node as it comes, of a user with that home."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        path = (f"{home}/.local/bin", f"{home}/bin", f"{home}/casa-6/bin", os.environ["PATH"])
        patch.setenv("PATH", ":".join(path))
        return start_node(platforms=["process"], sandbox=request.param, max_running=1)


def said(node: NodeProcess, executable: dict[str, object]) -> str:
    return node.stream(node.completed(Request(dict(executable))))


def test_nothing_of_a_home_is_seen_but_its_programs(node: NodeProcess, home: Path) -> None:
    found = said(node, shell(f"find {home} -type f; grep -rs {SECRET} {home}; exit 0"))
    assert "survey-tool" in found
    assert SECRET not in found
    for private in (".ssh", ".aws", "thesis", "keyrings"):
        assert private not in found


@pytest.mark.parametrize(
    ("tool", "text"),
    [
        ("survey-tool", "catalogue\n"),
        ("fits-tool", "pixels\n"),
        ("my-script", "mine\n"),
        ("casa", "measures\n"),
    ],
)
def test_programs_of_the_nodes_user_run(node: NodeProcess, tool: str, text: str) -> None:
    """Of pip's --user, pipx, a folder of scripts, something that was unpacked in the home."""
    assert said(node, process(tool)) == text


def test_services_and_other_state_of_the_machine_are_not_seen(node: NodeProcess, tmp_path: Path) -> None:
    secret = Path("/var/tmp") / f"wb-secret-{os.getpid()}"
    secret.write_text(SECRET)
    try:
        script = (
            f"cat {secret} {tmp_path}/x /etc/shadow /etc/gshadow /etc/sudoers /etc/ssh/*_key /root/.bashrc"
            " /var/log/* /run/*.sock 2>/dev/null; ls / /etc /run /var /home /root /srv 2>/dev/null"
        )
        found = said(node, shell(f"{script}; exit 0")).split()
    finally:
        secret.unlink()
    assert SECRET not in found
    assert not {"shadow", "gshadow", "sudoers", "ssh", "log", "spool", "docker.sock"} & set(found)


def test_what_the_system_offers_works(node: NodeProcess) -> None:
    """Names of users and of the machine, certificates, time zones, the number of processors, links."""
    script = (
        "import pwd, os, ssl, time, socket, multiprocessing\n"
        "print(pwd.getpwuid(os.getuid()).pw_name, socket.gethostbyname('localhost'))\n"
        "print(ssl.create_default_context().cert_store_stats()['x509'] >= 0, os.path.exists('/bin/sh'))\n"
        "print(multiprocessing.cpu_count() > 0, open('/etc/resolv.conf').read() is not None)\n"
    )
    lines = said(node, process("python3", "-I", "-c", script)).splitlines()
    assert lines[0].endswith(" 127.0.0.1")
    assert lines[1:] == ["True True", "True True"]


def test_nothing_is_shown_because_of_what_a_step_says(node: NodeProcess, tmp_path: Path) -> None:
    """Its PATH, its command line, its environment."""
    place = Path("/var/tmp") / f"wb-place-{os.getpid()}"
    _program(place / "bin" / "tool", "echo ran")
    (place / "secret").write_text(SECRET)
    try:
        path = f"{place}/bin:{place}:{node.state}:{node.state}/bin:/usr/bin:/bin"
        script = f"cat {place}/secret; ls -d {place}/bin/*; ls {node.state}"
        found = said(node, shell(f"{script}; exit 0", environment={"PATH": path, "HOME": str(place)}))
        assert (SECRET in found, "tool" in found, found.split()) == (False, False, ["sessions"])
        named = node.run(Request(process(f"{place}/bin/tool")))
        searched = node.run(Request(process("tool", environment={"PATH": path})))
    finally:
        subprocess.run(["rm", "-rf", str(place)], check=True)
    for session in (named, searched):
        assert session["executable"]["exitCode"] == 127
        assert f"{place}/bin/tool is on this machine" in texts(session)
        assert f"sandbox_shows, for example [system, {place}/bin]" in texts(session)


def test_libraries_to_load_are_said_to_the_step_only(
    node: NodeProcess, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A library that is made in the step itself is loaded by what the step starts, and by nothing outside."""
    folder = tmp_path_factory.mktemp("outside")
    canary, source, library = folder / "canary", folder / "evil.c", folder / "evil.so"
    source.write_text(
        "#include <fcntl.h>\n#include <unistd.h>\n__attribute__((constructor)) static void on(void)"
        f'{{ open("{canary}", O_CREAT | O_WRONLY, 0600); write(1, "loaded\\n", 7); }}\n'
    )
    if subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(source)], check=False).returncode:
        pytest.skip("there is no C compiler")
    for name in ("LD_PRELOAD", "LD_AUDIT"):
        session = node.run(Request(shell("true", environment={name: str(library), "PATH": "/usr/bin:/bin"})))
        assert "loaded" not in node.stream(session)
    assert not canary.exists()
    data = Request(shell("env; true", environment={"LD_PRELOAD": str(library), "PATH": "/usr/bin:/bin"}))
    session = node.completed(data.data("/wb-3f9a/in/evil.so", library.as_uri()))
    assert "loaded" in node.stream(session)
    assert not canary.exists()


def test_the_environment_is_the_steps_own_and_on_no_command_line(node: NodeProcess, tmp_path: Path) -> None:
    """Other users of the machine can read the command lines of all processes."""
    request = Request(shell("env; echo; sleep 641", environment={"TOKEN": SECRET, "PATH": "/usr/bin:/bin"}))
    session = node.begin(request)
    node.until(session, lambda now: now["phase"] == "RUNNING" and b"sleep\x00641" in _command_lines())
    assert SECRET.encode() not in _command_lines()
    node.update(session, "CANCELLED")
    node.end(session)
    lines = said(node, shell("env", environment={"TOKEN": SECRET, "PATH": "/usr/bin:/bin"})).splitlines()
    assert {line.partition("=")[0] for line in lines} == {"TOKEN", "PATH", "PWD"}


def _command_lines() -> bytes:
    text = b""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text += path.read_bytes() + b"\n"
        except OSError:
            continue
    return text


def test_the_machine_is_not_told_what_to_do(node: NodeProcess) -> None:
    """Also by root, to which some of these files belong."""
    script = (
        "for file in /proc/sys/kernel/core_pattern /proc/sys/kernel/modprobe /proc/sys/vm/drop_caches"
        " /proc/sysrq-trigger /proc/irq/default_smp_affinity /sys/devices/system/cpu/cpu0/online"
        " /usr/wb-x /etc/wb-x /etc/passwd /wb-x; do"
        ' if (exec 3<>"$file") 2>/dev/null; then echo "$file"; fi; done'
    )
    before = Path("/proc/sys/kernel/core_pattern").read_text()
    assert said(node, shell(script)) == ""
    assert Path("/proc/sys/kernel/core_pattern").read_text() == before


@pytest.mark.skipif(os.geteuid() != 0, reason="another user takes nobody's rights anyway")
def test_root_has_no_rights_over_files_of_others(node: NodeProcess, tmp_path: Path) -> None:
    """Here over an input that its owner lets nobody read; nor can it be that user."""
    theirs = tmp_path / "theirs"
    theirs.write_text(SECRET)
    os.chown(theirs, 4711, 4711)
    theirs.chmod(0o600)
    script = (
        "import os\n"
        "def tried(what, call, *arguments):\n"
        "    try: print(what, call(*arguments))\n"
        "    except OSError as error: print(what, 'refused')\n"
        "tried('read', lambda: open('/wb-3f9a/in/theirs').read())\n"
        "tried('chown', os.chown, '/wb-3f9a/in/theirs', 0, 0)\n"
        "tried('chmod', os.chmod, '/wb-3f9a/in/theirs', 0o777)\n"
        "tried('setuid', lambda: (os.setgroups([]), os.setgid(4711), os.setuid(4711)))\n"
        "tried('read', lambda: open('/wb-3f9a/in/theirs').read())\n"
    )
    request = Request(process("python3", "-I", "-c", script))
    session = node.completed(request.data("/wb-3f9a/in/theirs", theirs.as_uri(), "READWRITE", copy=False))
    lines = node.stream(session).splitlines()
    assert [line for line in lines if not line.startswith("setuid")] == [
        "read refused",
        "chown refused",
        "chmod refused",
        "read refused",
    ]
    assert (theirs.stat().st_uid, theirs.stat().st_mode & 0o777) == (4711, 0o600)


def test_no_rights_of_owners_and_no_devices_survive(node: NodeProcess, tmp_path: Path) -> None:
    script = (
        "cp /bin/true given; chmod 6755 given; cp /bin/true mine; chmod 4755 mine;"
        " mknod device b 8 0 2>/dev/null; mknod node c 1 3 2>/dev/null; mkdir d; chmod 2755 d; ls"
    )
    out = tmp_path / "out"
    node.completed(Request(shell(script)).output(out))
    assert (out / "given").exists()
    for path in [out, *out.rglob("*")]:
        mode = path.lstat().st_mode
        assert path.is_dir() or mode & 0o6000 == 0, path
        assert path.is_file() or path.is_dir(), path


def test_devices_of_the_machine_stay_as_they_are(node: NodeProcess) -> None:
    """Root's are root's in the sandbox, too: there as well it must not change their modes."""
    if os.geteuid() == 0 and node.config["sandbox"] == "bwrap":
        pytest.skip("bubblewrap mounts root's devices so that root can change their modes (docs/nodes.md)")
    devices = [Path(f"/dev/{name}") for name in ("null", "zero", "urandom", "tty")]
    before = [device.stat().st_mode for device in devices]
    script = (
        "import os\n"
        "for name in ('null', 'zero', 'urandom', 'tty'):\n"
        "    for change in (lambda f: os.chmod(f, 0o600), lambda f: os.utime(f, (1, 1))):\n"
        "        try: change('/dev/' + name); print(name)\n"
        "        except OSError: pass\n"
        "try: os.fchmod(0, 0o600); print('input')\n"
        "except OSError: pass\n"
        "open('/dev/null', 'w').write('x')\n"
    )
    try:
        assert said(node, process("python3", "-I", "-c", script)) == ""
        assert [device.stat().st_mode for device in devices] == before
    finally:
        if os.geteuid() == 0:
            for device, mode in zip(devices, before, strict=True):
                device.chmod(mode & 0o7777)


def test_standard_input_is_no_way_to_write_to_it(node: NodeProcess, tmp_path: Path) -> None:
    """By /proc a descriptor can be opened again; of a file that is an input it must not be to write."""
    given = tmp_path / "given.txt"
    given.write_text("given\n")
    given.chmod(0o644)
    script = (
        "import os, sys\n"
        "print(sys.stdin.read().strip())\n"
        "for way in (lambda: os.open('/proc/self/fd/0', os.O_RDWR), lambda: os.fchmod(0, 0o777),\n"
        "            lambda: os.truncate('/proc/self/fd/0', 0), lambda: os.open('/dev/stdin', 1)):\n"
        "    try: way(); print('done')\n"
        "    except OSError: pass\n"
    )
    executable = process("python3", "-I", "-c", script, streams={"stdin": {"path": "/wb-3f9a/in/given.txt"}})
    session = node.completed(Request(executable).data("/wb-3f9a/in/given.txt", given.as_uri()))
    assert node.stream(session) == "given\n"
    assert (given.read_text(), given.stat().st_mode & 0o777) == ("given\n", 0o644)


def test_nothing_of_proc_but_a_steps_own_can_be_written_to(node: NodeProcess) -> None:
    script = "find /proc -maxdepth 3 -not -path '/proc/[0-9]*' -not -type l -type f -perm /222 -writable"
    assert said(node, shell(f"{script} 2>/dev/null; exit 0")) == ""


def test_a_step_whose_first_thread_has_ended_is_cancelled(node: NodeProcess) -> None:
    """Its process seems to have ended, but for its other threads."""
    script = (
        "import ctypes, threading, time\n"
        "def go_on():\n    while True: time.sleep(0.1); print('on', flush=True)\n"
        "threading.Thread(target=go_on).start()\n"
        "libc = ctypes.PyDLL(None); libc.pthread_exit(None) if 0 else ctypes.CDLL(None).syscall(60, 0)\n"
    )
    session = node.begin(Request(process("python3", "-c", script)))
    node.until(session, lambda now: now["phase"] == "RUNNING")
    until(lambda: "on" in node.stream(session))
    node.update(session, "CANCELLED")
    assert node.end(session, 30)["phase"] == "CANCELLED"
    length = len(node.stream(session))
    assert len(node.stream(session)) == length
