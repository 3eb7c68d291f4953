"""A private network, mount and pid namespace, and the processes that live and die in it."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

SCRATCH = Path(os.environ.get("XMPP_SCRATCH", "target/ci/xmpp")).resolve()
ROOT = SCRATCH / "root"
LIBS = ROOT / "usr/lib" / f"{os.uname().machine}-linux-gnu"
RUN = SCRATCH / "run"
REPOSITORY = Path(__file__).resolve().parents[3]
NAME_SERVER = "127.0.0.53"

_INSIDE = "XMPP_RIG_INSIDE"
_processes: list[subprocess.Popen[bytes]] = []
_logs: dict[int, Path] = {}


def enter() -> None:
    """Goes on in a namespace of its own, with nothing but loopback. The pid namespace ends with its
    first process, and everything in it: nothing that is started here can survive."""
    if _INSIDE not in os.environ:
        os.environ[_INSIDE] = "1"
        user = [] if os.getuid() == 0 else ["--user", "--map-root-user"]
        space = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        command = ["unshare", *user, *space, "--propagation", "private", sys.executable, "-u", *sys.argv]
        os.execvp("unshare", command)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    RUN.mkdir(parents=True, exist_ok=True)
    # ejabberd resolves by libc.
    for name, text in (
        ("resolv.conf", f"nameserver {NAME_SERVER}\noptions timeout:1 attempts:1\n"),
        ("hosts", "127.0.0.1 localhost\n"),
    ):
        (RUN / name).write_text(text)
        subprocess.run(["mount", "--bind", RUN / name, f"/etc/{name}"], check=True)


def spawn(argv: list[str], log: Path, env: dict[str, str], cwd: Path) -> subprocess.Popen[bytes]:
    """Starts a process in a group of its own, to be ended by `end`."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            argv, cwd=cwd, env=env, stdout=output, stderr=output, stdin=subprocess.DEVNULL, start_new_session=True
        )
    _processes.append(process)
    _logs[process.pid] = log
    return process


def end(process: subprocess.Popen[bytes], patience: float = 5.0) -> None:
    """Ends a process that `spawn` started, with its group."""
    for sent in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sent)
        except ProcessLookupError:
            break
        try:
            process.wait(patience)
            break
        except subprocess.TimeoutExpired:
            continue
    if process in _processes:
        _processes.remove(process)


def end_all() -> None:
    """Ends everything that `spawn` started, the youngest first."""
    for process in reversed(_processes.copy()):
        end(process)


def environment(**more: str) -> dict[str, str]:
    """The environment for the unpacked programs."""
    share = ROOT / "usr/share/lua/5.4"
    return {
        **os.environ,
        "LD_LIBRARY_PATH": str(LIBS),
        "LUA_PATH": f"{share}/?.lua;{share}/?/init.lua",
        "LUA_CPATH": f"{LIBS}/lua/5.4/?.so",
        **more,
    }


def wait_for_port(ip: str, port: int, process: subprocess.Popen[bytes], seconds: float = 30.0) -> None:
    """Returns once somebody listens; fails when the process ends, or by the deadline."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            last_words = _logs[process.pid].read_text(errors="replace")[-2000:]
            raise RuntimeError(f"the server for {ip}:{port} ended with {process.returncode}:\n{last_words}")
        if port_is_open(ip, port):
            return
        time.sleep(0.02)
    raise RuntimeError(f"{ip}:{port} did not open within {seconds} s")


def wait_for_file(path: Path, seconds: float = 10.0) -> None:
    """Returns once it is there; fails by the deadline."""
    deadline = time.monotonic() + seconds
    while not path.exists():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{path} did not appear within {seconds} s")
        time.sleep(0.01)


def port_is_open(ip: str, port: int) -> bool:
    """Whether somebody listens."""
    try:
        socket.create_connection((ip, port), 0.5).close()
    except OSError:
        return False
    return True


async def until(condition: Callable[[], bool], what: str, seconds: float = 5.0) -> float:
    """Waits for a condition and returns how long it took; fails by the deadline."""
    started = time.monotonic()
    while not condition():
        if time.monotonic() - started > seconds:
            raise AssertionError(f"not within {seconds} s: {what}")
        await asyncio.sleep(0.002)
    return time.monotonic() - started
