"""What the machine has, and how it is used: devices, precision, threads, memory."""

import os
from contextlib import contextmanager
from pathlib import Path

import torch
from threadpoolctl import ThreadpoolController

from sklearn_recvae._kernels import onednn_multiplies

# A step of fewer multiply-adds runs in one thread. It has many small operations, and
# after each of them the threads wait for each other without sleeping: little is won
# where the cores are free, and ten times the time is lost where they are shared.
SMALL_STEP = 2.5e8


def resolve_device(device):
    """Turn the parameter `device` into a torch device that exists.

    Parameters
    ----------
    device : str
        "auto" (CUDA if there is one, else the CPU) or the name of a torch device.

    Returns
    -------
    torch.device
        The device.

    Raises
    ------
    ValueError
        If the machine has no such device.
    """
    available = _available_devices()
    if device == "auto":
        return torch.device("cuda" if "cuda" in available else "cpu")
    if device not in available:
        raise ValueError(
            f"device={device!r} was asked for, but this machine has: "
            f"{', '.join(available)}. Choose one of these, or 'auto'."
        )
    return torch.device(device)


def _available_devices():
    names = ["cpu"]
    if torch.cuda.is_available():
        names += ["cuda", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        names.append("mps")
    return names


def resolve_matmul_dtype(precision, device):
    """Turn the parameter `precision` into the dtype of the large matrix products.

    Parameters
    ----------
    precision : {"auto", "float32", "mixed"}
        "auto" is mixed where the hardware multiplies bfloat16 natively.
    device : torch.device
        Where the products are computed.

    Returns
    -------
    torch.dtype
        torch.bfloat16 or torch.float32.
    """
    if precision == "auto":
        precision = "mixed" if _has_native_bfloat16(device) else "float32"
    return torch.bfloat16 if precision == "mixed" else torch.float32


def _has_native_bfloat16(device):
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        # What the processor has helps only if the library that multiplies makes use of
        # it. A public query exists only in recent versions of torch; without it the
        # answer "no" costs speed, not correctness.
        capabilities = getattr(torch.cpu, "get_capabilities", dict)()
        return onednn_multiplies(torch.bfloat16) and any(
            capabilities.get(name, False)
            for name in ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")
        )
    return False


def available_memory():
    """Return the bytes of memory that may be taken, None where nothing says it.

    On Linux what is free or can be freed, within the limit of a container; elsewhere
    all memory that the machine has.
    """
    available = []
    if (meminfo := Path("/proc/meminfo")).exists():
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                available.append(1024 * int(line.split()[1]))
    elif "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):
        available.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    group = Path("/sys/fs/cgroup")
    limit = group / "memory.max"
    if limit.exists() and (text := limit.read_text().strip()) != "max":
        available.append(int(text) - int((group / "memory.current").read_text()))
    return min(available, default=None)


def keep_freed_memory():
    """Have the C library reuse freed blocks instead of handing them back.

    glibc maps large blocks anew each time, and every page of them costs a fault when it
    is first touched. But the size from which on it does so rises to that of the largest
    mapped block freed so far, up to 32 MB (mallopt(3), M_MMAP_THRESHOLD); so one is
    freed here. It also hands back what is free at the upper end of its memory; so
    blocks are taken from there, and the uppermost is returned. None of them is ever
    touched, and elsewhere this does nothing.

    Returns
    -------
    torch.Tensor
        While it is held, what is free below it is kept.
    """
    torch.empty(32 * 2**20 - 2**16, dtype=torch.uint8)
    blocks = [torch.empty(16 * 2**20, dtype=torch.uint8) for _ in range(16)]
    return max(blocks, key=torch.Tensor.data_ptr)


def call_with_threads(step_work, function):
    """Call a function that trains, with one thread if steps are small.

    The size alone decides, and not the load, so that results repeat. Other threads of
    the process, and what comes after, have the number of threads that they had.

    Parameters
    ----------
    step_work : int
        Multiply-adds of a training step.
    function : callable
        Called without arguments; in it ``torch.get_num_threads()`` is what is used.

    Returns
    -------
    object
        What the function returns.
    """
    if step_work >= SMALL_STEP:
        return function()
    return limit_threads(1, function)


def limit_threads(n_threads, function):
    """Call a function with at most so many threads.

    Other threads of the process, and what comes after, have the number of threads that
    they had.

    Parameters
    ----------
    n_threads : int
        The most that torch may use, at least 1.
    function : callable
        Called without arguments.

    Returns
    -------
    object
        What the function returns.
    """
    # On its first use in a thread torch sets the thread's number: let that be now.
    torch.get_num_threads()
    # torch.set_num_threads would be seen by threads that start meanwhile.
    libraries = ThreadpoolController().select(user_api="openmp").lib_controllers
    before = [library.num_threads for library in libraries]

    def restore():
        for library, number in zip(libraries, before, strict=True):
            library.set_num_threads(number)

    try:
        try:
            for library, number in zip(libraries, before, strict=True):
                library.set_num_threads(min(number, n_threads))
            return function()
        finally:
            restore()
    finally:
        restore()  # once more, since Ctrl-C may have come in the midst of the first


class ThreadShare:
    """The threads of this process, divided among functions that run at a time.

    Parameters
    ----------
    n_functions : int
        How many they are, at least 1.
    """

    def __init__(self, n_functions):
        self.process = os.getpid()
        self.n_threads = max(1, torch.get_num_threads() // n_functions)

    def call(self, function):
        """Call one of the functions, in any thread, and return what it returns.

        In another process, to which this was sent, the threads are its own.
        """
        if os.getpid() != self.process:
            return function()
        return limit_threads(self.n_threads, function)


def _use_one_thread():
    """Have torch compute with one thread in a process that was forked.

    It has the memory of its parent, with a pool of threads, but not the threads: torch
    would give them work and wait for ever.
    """
    torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):  # where there is fork
    os.register_at_fork(after_in_child=_use_one_thread)


@contextmanager
def memory_hint(hint):
    """Turn the failure of an allocation into a MemoryError that says what to do.

    Parameters
    ----------
    hint : str
        Ends the message.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # torch has a class of its own for GPUs alone.
        too_large = "allocate", "Storage size calculation overflowed"
        if isinstance(error, RuntimeError) and not any(
            words in str(error) for words in too_large
        ):
            raise
        raise MemoryError(f"{error} {hint}") from error
