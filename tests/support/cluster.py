"""The real Slurm cluster of the tests: `slurm/testbed` in a folder of its own, and faults to cause in it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

import psutil

from tests.support.places import REPOSITORY
from tests.support.running import PATIENCE_S, wait_until

TESTBED = REPOSITORY / "slurm" / "testbed"
NODES, GPUS, PORTS = 4, 4, 16


class Cluster:
    """Four nodes with four fake GPUs each."""

    def __init__(self, *options: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="hb-", dir="/tmp"))  # short: there are sockets in it
        self._environment = {
            **os.environ,
            "HPC_BENCH_TESTBED": str(self.folder),
            "HPC_BENCH_TESTBED_PORT": str(_free_ports()),
        }
        self.environment = {"SLURM_CONF": str(self.folder / "slurm.conf")}
        self.options = options

    def testbed(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`slurm/testbed` to its end."""
        with tempfile.TemporaryFile("w+") as output:  # not a pipe, which daemons would hold open
            done = subprocess.run(
                [TESTBED, *arguments],
                env=self._environment,
                stdout=output,
                stderr=output,
                timeout=PATIENCE_S,
                check=False,
            )
            output.seek(0)
            return subprocess.CompletedProcess(done.args, done.returncode, output.read(), "")

    def up(self, *options: str) -> None:
        """Starts it, or revives what died."""
        done = self.testbed("up", *self.options, *options)
        assert done.returncode == 0, done.stdout

    def down(self) -> None:
        """Ends it for good."""
        self.testbed("down", "--wipe")
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, *command: str) -> str:
        """What a Slurm command printed."""
        return subprocess.run(
            command,
            env={**os.environ, **self.environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=True,
        ).stdout

    @property
    def name(self) -> str:
        """As it is known to itself and to accounting."""
        config = self.run("scontrol", "show", "config").splitlines()
        return next(line.split("=")[1].strip() for line in config if line.startswith("ClusterName"))

    def clear(self) -> None:
        """Up, as it was made, with no job in it."""
        self.up("--max-array-size", "10001")
        self.run("scancel", f"--user={os.getuid()}")
        wait_until(lambda: not self.run("squeue", "--noheader").strip() and self._idle())

    def _idle(self) -> bool:
        return self.run("sinfo", "--noheader", "-N", "-p", "main", "-o", "%T").split() == ["idle"] * NODES

    def kill(self, daemon: str, signal_name: str = "KILL") -> None:
        """Ends one daemon, such as slurmctld or slurmd.node0 (whose jobs go on)."""
        pid = self.pid(daemon)
        self.testbed("kill", daemon, signal_name)
        psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], timeout=5)

    def pid(self, daemon: str) -> int:
        """Of a daemon."""
        return int((self.folder / "run" / f"{daemon}.pid").read_text())

    def kill_node(self, node: str) -> None:
        """A power cut: its slurmd and every process of its jobs, all at once."""
        for pid in [self.pid(f"slurmd.{node}"), *self.processes_on(node)]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def processes_on(self, node: str) -> list[int]:
        """Everything that jobs started on a node, with the slurmstepds above it."""
        found = set()
        for process in psutil.process_iter():
            try:
                environment = process.environ()
                if (
                    environment.get("SLURMD_NODENAME") == node
                    and environment.get("SLURM_CONF") in self.environment.values()
                ):
                    found |= {process.pid, *(p.pid for p in process.parents() if p.name().startswith("slurmstepd"))}
            except psutil.Error:
                continue
        return sorted(found)


def _free_ports() -> int:
    """The first of PORTS ports in a row that nobody listens on; other workers of pytest look in other places."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    first = 21000 + worker % 8 * 1200
    for base in range(first, first + 1200, PORTS):
        sockets = []
        try:
            for port in range(base, base + PORTS):
                sockets.append(socket.socket())
                sockets[-1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sockets[-1].bind(("127.0.0.1", port))
            return base
        except OSError:
            continue
        finally:
            for item in sockets:
                item.close()
    raise AssertionError("no free ports")


def is_installed() -> bool:
    """Whether there is all that a cluster needs."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    programs = ("munged", "slurmctld", "slurmd", "sbatch", "slurmdbd", "mariadbd")
    return all(shutil.which(program, path=path) for program in programs)
