"""What this process has in memory. It imports nothing, since it runs in what is measured."""


def resident() -> int:
    """Bytes in memory now."""
    return _status("VmRSS") * 1024


def peak() -> int:
    """The most bytes that there ever were in memory, of this program alone.

    The `ru_maxrss` of a child would count what its parent had in memory when it was started.
    """
    return _status("VmHWM") * 1024


def machine(key: str) -> int:
    """Bytes of the machine's memory: `MemTotal`, `MemAvailable`."""
    return _field("/proc/meminfo", key) * 1024


def _status(key: str) -> int:
    return _field("/proc/self/status", key)


def _field(path: str, key: str) -> int:
    with open(path) as lines:
        for line in lines:
            if line.startswith(f"{key}:"):
                return int(line.split()[1])
    raise LookupError(f"{path} does not have {key}; the benchmarks need Linux")
