"""What the measurements were made on."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from ours import has_native_bfloat16

PACKAGES = (
    "torch",
    "numpy",
    "scipy",
    "scikit-learn",
    "cornac",
    "recpack",
    "implicit",
)


def describe_machine():
    """Describe processor, system and versions; None where a package is missing."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "native_bfloat16": has_native_bfloat16(),
        "load": os.getloadavg()[0],
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: version_of(name) for name in PACKAGES},
    }


def processor():
    """Name the processor."""
    file = Path("/proc/cpuinfo")
    if file.exists():
        for line in file.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def version_of(package):
    """Return the installed version, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
