import os
from pathlib import Path

import pytest
import torch

# Networks are tiny here: one thread is faster, above all on a busy machine.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def data_dir():
    """Folder with the real data sets, where there is one."""
    folder = os.environ.get("SKLEARN_RECVAE_DATA")
    if not folder:
        pytest.skip("set SKLEARN_RECVAE_DATA to the folder of the data sets")
    return Path(folder)
