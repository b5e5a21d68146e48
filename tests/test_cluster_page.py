"""What docs/cluster.md shows is accepted by the linters of Kubernetes and of shells."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "cluster.md").read_text("utf-8")
MANIFESTS = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
SCRIPTS = re.findall(r"^```bash\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
HERE = str(Path(sys.executable).parent)
SHELLCHECK = shutil.which("shellcheck", path=HERE) or shutil.which("shellcheck")

pytestmark = pytest.mark.once


@pytest.mark.parametrize("text", MANIFESTS)
def test_the_manifests_are_what_kubernetes_takes(text: str) -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    yaml = pytest.importorskip("yaml")
    manifest: Any = yaml.safe_load(text)
    kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)
    pod = manifest["spec"]["template"]["spec"]
    volumes = {volume["name"] for volume in pod.get("volumes", [])}
    for container in [*pod["containers"], *pod.get("initContainers", [])]:
        assert {mount["name"] for mount in container.get("volumeMounts", [])} <= volumes


@pytest.mark.skipif(SHELLCHECK is None, reason="shellcheck is not installed")
@pytest.mark.parametrize("text", SCRIPTS)
def test_shellcheck_finds_nothing_in_the_scripts(text: str) -> None:
    command = [str(SHELLCHECK), "--shell=bash", "-"]
    done = subprocess.run(command, input=text, stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0, done.stdout
