"""A virtual environment a peer, made from the package registry when it is first needed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Peer:
    # What pip installs; where no version stands, the newest.
    packages: tuple[str, ...]
    # Its wheels work with this Python only.
    python: str | None = None
    # It needs libpython and its own folder among the library paths.
    library_folder: str | None = None


PEERS = {
    "diskannpy": Peer(("diskannpy==0.7.0",)),
    "faiss": Peer(("faiss-cpu",)),
    "hnswlib": Peer(("hnswlib",)),
    "usearch": Peer(("usearch",)),
    "scann": Peer(("scann",)),
    "sptag": Peer(("sptag==1.6.8", "numpy"), python="3.9", library_folder="sptag"),
}


class Unavailable(Exception):
    """A peer that cannot be installed here, and why."""


def find_python(version: str) -> Path:
    """A Python of this version: on the path, or one of pyenv's."""
    found = shutil.which(f"python{version}")
    # pyenv's shims stand in the path also for versions that are not chosen.
    if found and "/shims/" not in found:
        return Path(found)
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    candidates = sorted(root.glob(f"versions/{version}.*/bin/python{version}"))
    if not candidates:
        raise Unavailable(f"needs Python {version}, which is not here")
    return candidates[-1]


class Environments:
    def __init__(self, out: Path):
        self.folder = out / "venv"
        self.failed: dict[str, str] = {}

    def python(self, name: str) -> Path:
        """The interpreter of this peer's environment.

        Raises Unavailable where it cannot be installed; it is not tried twice in a run.
        """
        if name in self.failed:
            raise Unavailable(self.failed[name])
        folder = self.folder / name
        if not (folder / "ready").exists():
            try:
                self.install(name, folder)
            except Unavailable as reason:
                self.failed[name] = str(reason)
                raise
        return folder / "bin" / "python"

    def install(self, name: str, folder: Path) -> None:
        peer = PEERS[name]
        python = find_python(peer.python) if peer.python else Path(sys.executable)
        print(f"installing {' '.join(peer.packages)}", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        pip = [folder / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", *peer.packages]
        for command in ([python, "-m", "venv", folder], pip):
            done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
            if done.returncode != 0:
                raise Unavailable((done.stderr.strip().splitlines() or ["failed"])[-1])
        (folder / "ready").touch()

    def variables(self, name: str) -> dict[str, str]:
        """What the peer's processes need in their environment beyond ours."""
        peer = PEERS[name]
        if not peer.library_folder:
            return {}
        python = self.python(name)
        ask = "import sysconfig; print(sysconfig.get_path('platlib')); print(sysconfig.get_config_var('LIBDIR'))"
        packages, libraries = subprocess.run(
            [str(python), "-c", ask], check=True, capture_output=True, text=True
        ).stdout.split()
        return {"LD_LIBRARY_PATH": f"{packages}/{peer.library_folder}:{libraries}"}

    def version(self, name: str) -> str:
        ask = "import sys; from importlib.metadata import version; print(version(sys.argv[1]))"
        package = PEERS[name].packages[0].split("=")[0]
        return subprocess.run(
            [str(self.python(name)), "-c", ask, package], check=True, capture_output=True, text=True
        ).stdout.strip()
