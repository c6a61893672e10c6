"""A Slurm cluster of two nodes on the loopback of this machine, for as long as a test lasts."""

import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.core.clock import now_s, sleep_s

PROGRAMS = {"slurmctld": "slurm-wlm", "slurmd": "slurm-wlm", "sbatch": "slurm-wlm"}
PROGRAMS |= {"munged": "munge"}
"""Programs that are needed, and the Debian package that brings each."""

_SLURM_CONF = """\
ClusterName=loopback
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_interval=2
SlurmdTimeout=5
KillWait=2
MinJobAge=300
ReturnToService=2
JobRequeue=1
MailProg=/bin/true
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=2
PartitionName=all Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
"""


def why_not() -> str | None:
    """Why there can be no cluster here."""
    if os.name != "posix" or os.getuid() != 0:
        return "needs root, as the daemons start processes of users"
    missing = {package for name, package in PROGRAMS.items() if _find(name) is None}
    return f"needs the Debian packages {' '.join(sorted(missing))}" if missing else None


def _find(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


@dataclass(frozen=True)
class Cluster:
    """A cluster that runs.

    Attributes:
        folder: of its files.
        nodes: the daemon of each node, by its name.
    """

    folder: Path
    nodes: dict[str, subprocess.Popen[bytes]]

    @property
    def environment(self) -> dict[str, str]:
        """Environment of Slurm's own commands."""
        return {"SLURM_CONF": str(self.folder / "slurm.conf")}

    def ask(self, *words: str) -> str:
        """Output of a command of Slurm's."""
        done = subprocess.run(
            words, env=os.environ | self.environment, capture_output=True, text=True, timeout=60
        )
        return done.stdout + done.stderr

    def kill(self, name: str) -> None:
        """As a node that loses its power: the daemon, and all that runs on it, nobody told."""
        self.nodes[name].kill()
        on_it = [process for process in psutil.process_iter() if self.node_of(process.pid) == name]
        keepers = {p for process in on_it for p in process.parents() if p.name() == "slurmstepd"}
        all_of_it = [*keepers, *on_it]
        for what in ("suspend", "kill"):  # none may see another one die
            for process in all_of_it:
                with suppress(psutil.Error):
                    getattr(process, what)()

    def node_of(self, pid: int) -> str | None:
        """The node that a process is on; None for one that has ended, or is on none."""
        try:
            told = psutil.Process(pid).environ()
        except psutil.Error:
            return None
        is_own = told.get("SLURM_CONF") == str(self.folder / "slurm.conf")
        return told.get("SLURMD_NODENAME") if is_own else None


@contextmanager
def loopback_cluster(folder: Path) -> Iterator[Cluster]:
    """Start the daemons, wait until both nodes are idle, and end all of them afterwards."""
    ports = _free_ports(3)
    text = _SLURM_CONF.format(host=socket.gethostname(), folder=folder, ports=ports)
    (folder / "slurm.conf").write_text(text)
    (folder / "state").mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    with ExitStack() as daemons:

        def start(*words: str) -> subprocess.Popen[bytes]:
            program = _find(words[0])
            assert program is not None
            daemon = subprocess.Popen(
                [program, *words[1:]],
                env=os.environ | {"SLURM_CONF": str(folder / "slurm.conf")},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            daemons.callback(_end, daemon)
            return daemon

        paths = {"key-file": key, "socket": folder / "munge.socket"}
        paths |= {f"{kind}-file": folder / f"munge.{kind}" for kind in ("pid", "log", "seed")}
        options = [f"--{name}={path}" for name, path in paths.items()]
        start("munged", "--foreground", "--force", *options)
        wait_until(lambda: (folder / "munge.socket").exists(), "munged", folder)
        start("slurmctld", "-D", "-i")
        nodes = {name: start("slurmd", "-D", "-N", name) for name in ("n1", "n2")}
        cluster = Cluster(folder, nodes)

        def are_idle() -> bool:
            return cluster.ask("sinfo", "-h", "-N", "-o", "%N %t").split() == [
                *("n1", "idle"),
                *("n2", "idle"),
            ]

        wait_until(are_idle, "slurmctld", folder)
        try:
            yield cluster
        finally:
            cluster.ask("scancel", "--user=root")
            for name in nodes:
                cluster.kill(name)


def wait_until(is_so: Callable[[], bool], what: str, folder: Path, patience_s: float = 60) -> None:
    """Wait for something; say what the daemons logged if it does not come."""
    ends_s = now_s() + patience_s
    while not is_so():
        if now_s() > ends_s:
            logs = "\n".join(file.read_text()[-2000:] for file in folder.glob("*.log"))
            raise AssertionError(f"{what} did not come up:\n{logs}")
        sleep_s(0.2)


def _end(daemon: subprocess.Popen[bytes]) -> None:
    daemon.terminate()
    try:
        daemon.wait(5)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()
