"""What the processes of one fit tell each other.

The items are shared out: each process has some rows of the tables that have a row for
each item. All processes see the same users, and repeat what has no row for an item.
So the sums over items are what they exchange.
"""

from typing import Protocol


class Communicator(Protocol):
    """What training needs of the other processes."""

    def sum_(self, tensor):
        """Add up a tensor over the processes, in place, and return it.

        Parameters
        ----------
        tensor : torch.Tensor
            Of the same shape everywhere.
        """

    def logsumexp(self, tensor):
        """Give the log of the sum of the exponentials over the processes.

        Parameters
        ----------
        tensor : torch.Tensor
            Of the same shape everywhere.
        """


class OneProcess:
    """The communicator of a fit in one process, where there is nothing to exchange."""

    def sum_(self, tensor):
        """Give the tensor as it is."""
        return tensor

    def logsumexp(self, tensor):
        """Give the tensor as it is."""
        return tensor
