"""What computes, in words."""

import platform
import re
from pathlib import Path


def processor() -> str:
    """The name of the CPU."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.*)", info.read_text()) if info.is_file() else None
    return found[1] if found else platform.processor()
