"""The example files for clusters: what can be checked without a cluster."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import yaml

EXAMPLES = Path(__file__).parents[1] / "docs/examples"
SOURCE = EXAMPLES.parents[1]
TRAINING = "stages/train.py"


def test_the_slurm_script() -> None:
    path = EXAMPLES / "train.sbatch"
    subprocess.run(["bash", "-n", path], check=True)
    lines = path.read_text(encoding="utf-8").splitlines()
    options = [line for line in lines if line.startswith("#SBATCH")]
    assert options
    assert all(re.fullmatch(r"#SBATCH --[a-z-]+(=\S+)?", option) for option in options)
    commands = [number for number, line in enumerate(lines) if line and not line.startswith("#")]
    assert lines.index(options[-1]) < commands[0], "sbatch reads no option behind the first command"
    assert any(TRAINING in line for line in lines)
    (output,) = [option.partition("=")[2] for option in options if "--output=" in option]
    assert (SOURCE / output).parent == SOURCE, "Slurm makes no folder for its output, so a fresh clone must have it"
    ignored = subprocess.run(["git", "check-ignore", "--quiet", output.replace("%j", "1")], cwd=SOURCE, check=False)
    assert ignored.returncode == 0


def test_the_kubernetes_manifest() -> None:
    service, job = yaml.safe_load_all((EXAMPLES / "train.yaml").read_text(encoding="utf-8"))
    name, spec = job["metadata"]["name"], job["spec"]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    options = dict(re.findall(r"--([a-z-]+)=(\S+)", " ".join(container["args"])))
    assert spec["completionMode"] == "Indexed"
    assert spec["completions"] == spec["parallelism"] == int(options["nnodes"])
    assert container["resources"]["limits"]["nvidia.com/gpu"] == int(options["nproc-per-node"])
    assert options["rdzv-endpoint"] == f"{name}-0.{pod['subdomain']}:29500"
    assert service["metadata"]["name"] == pod["subdomain"]
    assert service["spec"]["selector"] == {"batch.kubernetes.io/job-name": name}
    assert container["args"][-1] == TRAINING
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
