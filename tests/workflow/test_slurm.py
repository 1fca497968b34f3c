"""Runs through the profile on a real Slurm: stopped, killed and with a controller that went, they end in the same bytes
as a local run.

It is a Slurm of one machine, from Debian's packages, without systemd: its daemons are children of the test.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(1500)]

PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "squeue", "scancel", "scontrol")
# Snakemake's plugin forgets SLURM_CONF, so the file must be where Slurm looks by itself.
CONF = Path("/etc/slurm/slurm.conf")
UP_SECONDS = 30.0


@dataclass
class Cluster:
    """The daemons that the test started, by name."""

    folder: Path
    daemons: dict[str, subprocess.Popen] = field(default_factory=dict)

    def start(self, name: str, *command: str) -> None:
        with (self.folder / f"{name}.out").open("ab") as log:
            self.daemons[name] = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

    def stop(self, name: str, number: int = signal.SIGTERM) -> None:
        daemon = self.daemons.pop(name)
        daemon.send_signal(number)
        try:
            daemon.wait(20)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()

    def restart_controller(self) -> None:
        """The controller goes and comes again; jobs go on meanwhile."""
        self.stop("slurmctld")
        self.start("slurmctld", "slurmctld", "-D")
        self.wait()

    def wait(self) -> None:
        """Until the node takes jobs."""
        deadline = time.monotonic() + UP_SECONDS
        while "idle" not in (state := ask("sinfo", "--noheader", "--format=%T")) and "mixed" not in state:
            assert time.monotonic() < deadline, f"no Slurm after {UP_SECONDS} s: {state!r}\n{self.logs()}"
            time.sleep(0.2)

    def logs(self) -> str:
        return "\n".join(path.read_text(errors="replace")[-2000:] for path in self.folder.glob("*.[ol]*"))


def ask(*command: str) -> str:
    """What a Slurm command prints, whatever its status."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster of this machine; skips where its programs are missing, and without root."""
    if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
        pytest.skip(f"{missing[0]} is missing: apt-get install slurmctld slurmd slurm-client munge")
    pytest.importorskip("snakemake_executor_plugin_slurm", reason='pip install -e ".[slurm]" -c requirements.lock')
    if os.geteuid():
        pytest.skip("Slurm's daemons need root")
    if CONF.exists() and "ClusterName=retable-test" not in CONF.read_text():
        pytest.skip(f"{CONF} is there: this machine belongs to a cluster")
    made = Cluster(tmp_path_factory.mktemp("slurm"))
    host = socket.gethostname().partition(".")[0]
    CONF.parent.mkdir(exist_ok=True)
    CONF.write_text(f"""\
ClusterName=retable-test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SlurmdParameters=config_overrides
StateSaveLocation={made.folder}/state
SlurmdSpoolDir={made.folder}/spool
SlurmctldPidFile={made.folder}/slurmctld.pid
SlurmdPidFile={made.folder}/slurmd.pid
SlurmctldLogFile={made.folder}/slurmctld.log
SlurmdLogFile={made.folder}/slurmd.log
KillWait=30
MpiDefault=none
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 RealMemory=64000 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
""")
    for name in ("state", "spool"):
        (made.folder / name).mkdir()
    try:
        if not Path("/run/munge/munge.socket.2").exists():
            for place in ("/run/munge", "/var/log/munge", "/var/lib/munge"):
                Path(place).mkdir(exist_ok=True, parents=True)
                shutil.chown(place, "munge", "munge")
            made.start("munged", "runuser", "-u", "munge", "--", "munged", "--foreground", "--force")
            time.sleep(0.5)
        made.start("slurmctld", "slurmctld", "-D")
        made.start("slurmd", "slurmd", "-D")
        made.wait()
        yield made
    finally:
        for name in ("slurmd", "slurmctld", "munged"):
            if name in made.daemons:
                made.stop(name)
        CONF.unlink(missing_ok=True)


WAIT_SECONDS = 600.0
# Of a record, what two runs of the same thing may differ in.
VARYING = re.compile(rb'^  "(started|ended)": .*$|^    "(wall_s|cpu_s|peak_memory_bytes|resumed)": .*$', re.MULTILINE)


def wait_for(condition, head: subprocess.Popen, said: list[str]) -> None:
    """Until the condition holds, while the head runs."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert head.poll() is None, "".join(said)
        assert time.monotonic() < deadline, "".join(said)
        time.sleep(0.1)


def outcome(folder: Path) -> dict[str, bytes]:
    """Records, curves and kept weights of all seeds, by their places."""
    found = sorted((folder / "results/demo").rglob("seed-*")) + sorted(
        (folder / "results/.state").rglob("*.safetensors")
    )
    return {str(path.relative_to(folder)): VARYING.sub(b"", path.read_bytes()) for path in found if path.is_file()}


def state_of(checkout, seed: int) -> list[Path]:
    return list((checkout.folder / "results/.state").glob(f"*/seed-{seed}/state-*.pt"))


def job_of(checkout, seed: int) -> str:
    """The number of the job that measures a seed."""
    (listed,) = (checkout.folder / "results/bundles").glob("*.json")
    bundles = json.loads(listed.read_text())["bundles"]
    (marker,) = (bundle["name"] for bundle in bundles if seed in next(iter(bundle["seeds"].values())))
    lines = ask("squeue", "--noheader", "--format=%A %T %k").splitlines()
    (number,) = {line.split()[0] for line in lines if marker in line and "RUNNING" in line}
    return number


def processes_of(job: str) -> list[int]:
    """The processes of a job's step, as Slurm lists them."""
    lines = ask("scontrol", "listpids", job).splitlines()[1:]
    return [int(line.split()[0]) for line in lines if line.split()[0].isdecimal()]


@pytest.fixture
def three_seeds(tiny):
    """The tiny paper with three seeds, each a bundle of its own that takes some seconds."""
    tiny.edit("methods/tiny/card.yaml", "seeds: 1, cost: seconds", "seeds: 3, cost: seconds, seconds: 90")
    tiny.edit("methods/tiny/card.yaml", "epochs: {value: 3,", "epochs: {value: 600,")
    tiny.edit("retable/train/context.py", "CHECKPOINT_SECONDS = 20.0", "CHECKPOINT_SECONDS = 0.5")
    return tiny


def test_stopped_killed_and_left_alone_a_run_ends_in_the_same_bytes(cluster, three_seeds, record_property):
    local = type(three_seeds)(Path(shutil.copytree(three_seeds.folder, three_seeds.folder.with_name("local"))))
    profile = ("--workflow-profile", "workflows/profiles/slurm", "--slurm-init-seconds-before-status-checks", "2")
    begun = time.monotonic()
    with subprocess.Popen(
        three_seeds.command("paper_tiny", *profile), cwd=three_seeds.folder, env=three_seeds.environment(),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as head:  # fmt: skip
        said: list[str] = []
        reader = threading.Thread(target=lambda: said.extend(head.stdout))
        reader.start()
        try:
            wait_for(lambda: state_of(three_seeds, 0) and state_of(three_seeds, 1), head, said)
            ask("scancel", job_of(three_seeds, 0))
            killed = processes_of(job_of(three_seeds, 1))
            assert killed
            subprocess.run(["kill", "-9", *map(str, killed)], check=False)
            cluster.restart_controller()
            status = head.wait(WAIT_SECONDS)
        finally:
            head.kill()
            reader.join()
    text = "".join(said)
    assert status == 0, text
    assert "keeps no accounts of ended jobs" in text
    assert "3 of 3 seeds are measured" in text
    done = local.retable("run", "tiny")
    assert done.returncode == 0, done.stderr
    ours, theirs = outcome(three_seeds.folder), outcome(local.folder)
    assert ours == theirs
    assert len(ours) == 3 * 3  # record, curve, weights
    resumed = [path.read_text().count('"resumed": 1') for path in three_seeds.results("seed-[01].json")]
    assert resumed == [1, 1]
    record_property("slurm", f"slurm: a job cancelled, one killed, controller restarted: {len(ours)} files equal, "
                    f"{time.monotonic() - begun:.0f} s")  # fmt: skip


def test_a_job_asks_for_what_the_card_says(cluster, tiny):
    tiny.edit("methods/tiny/card.yaml", "cost: seconds", "cost: seconds, seconds: 90, memory_gb: 6, hours: 3")
    with subprocess.Popen(
        tiny.command("paper_tiny", "--workflow-profile", "workflows/profiles/slurm"), cwd=tiny.folder,
        env=tiny.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as head:  # fmt: skip
        try:
            wait_for(lambda: ask("squeue", "--noheader", "--format=%A").strip(), head, [])
            (job,) = ask("squeue", "--noheader", "--format=%A").split()
            asked = ask("scontrol", "show", "job", job)
            ask("scancel", job)
        finally:
            head.kill()
    assert "MinMemoryNode=6000M" in asked
    assert "NumCPUs=1 " in asked
    # Three hours with something to spare, and 90 seconds likewise.
    assert "TimeLimit=04:36:00" in asked
    assert "Requeue=1" in asked


def test_doctor_finds_the_cluster(cluster, tiny):
    said = tiny.retable("doctor").stdout
    assert "Slurm 2" in said
    assert "keeps no accounts" in said
