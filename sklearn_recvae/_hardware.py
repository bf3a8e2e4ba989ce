"""Devices, precision, threads and memory: what the machine has, and what we use."""

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
        # The processor's support helps only if the library that multiplies uses it.
        # Only recent versions of torch have a public query. Without it the answer is
        # "no", which costs speed, not correctness.
        capabilities = getattr(torch.cpu, "get_capabilities", dict)()
        return onednn_multiplies(torch.bfloat16) and any(
            capabilities.get(name, False)
            for name in ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")
        )
    return False


def available_memory():
    """Return the bytes of memory that may be used, or None if that is not known.

    On Linux this is the memory that is free or can be freed, within the limit of a
    container. On other systems it is all memory of the machine.
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

    glibc maps a large block anew each time, and each of its pages costs a fault when
    it is first touched. The size from which glibc does so rises to the size of the
    largest mapped block that was freed, up to 32 MB (mallopt(3), M_MMAP_THRESHOLD).
    So this function frees such a block. glibc also hands back free memory at the upper
    end of its heap. So this function takes blocks there, and returns the uppermost.
    None of these blocks is ever touched. Other C libraries are not affected.

    Returns
    -------
    torch.Tensor
        While the caller holds it, free memory below it is not handed back.
    """
    torch.empty(32 * 2**20 - 2**16, dtype=torch.uint8)
    blocks = [torch.empty(16 * 2**20, dtype=torch.uint8) for _ in range(16)]
    return max(blocks, key=torch.Tensor.data_ptr)


def call_with_threads(step_work, function):
    """Call a function that trains, with one thread if steps are small.

    Only the size decides, not the load, so that results can be repeated. The number
    of threads does not change for other threads of the process, nor after the call.

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

    The number does not change for other threads of the process, nor after the call.

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
    # torch sets the number of threads when a thread first uses it: do that now.
    torch.get_num_threads()
    # torch.set_num_threads would affect threads that start meanwhile.
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
        restore()  # once more: Ctrl-C may have interrupted the first call


class ThreadShare:
    """Divide the threads of this process among functions that run at the same time.

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

        In another process, it uses the threads of that process.
        """
        if os.getpid() != self.process:
            return function()
        return limit_threads(self.n_threads, function)


def _use_one_thread():
    """Have torch compute with one thread in a process that was forked.

    Such a process has its parent's memory, which lists a pool of threads, but it does
    not have the threads: torch would give them work and wait for ever.
    """
    torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):  # systems that can fork
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
        # torch has its own class of this error only for GPUs.
        too_large = "allocate", "Storage size calculation overflowed"
        if isinstance(error, RuntimeError) and not any(
            words in str(error) for words in too_large
        ):
            raise
        raise MemoryError(f"{error} {hint}") from error
