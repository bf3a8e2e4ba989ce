"""The scores of items that a fitted model gives: all that rankings and blends need."""

from abc import ABC, abstractmethod

import torch


class ItemScores(ABC):
    """The scores that one fitted model gives to items, for the rows of a batch.

    A child has at least `n_items` and the method `all`. It overrides the other methods
    where it can do better than to score all items first. Each method returns a new
    float32 tensor, which the caller may overwrite; higher is better.

    Attributes
    ----------
    n_items : int
        Number of items.
    device : torch.device
        Where batches and items must be, and where the scores are.
    """

    n_items: int
    device = torch.device("cpu")

    @abstractmethod
    def all(self, batch):
        """Score all items.

        Parameters
        ----------
        batch : Batch
            Interactions of some users.

        Returns
        -------
        torch.Tensor of shape (n_rows, n_items)
            A row for each user of the batch.
        """

    def candidates(self, batch, items):
        """Score the same items for all users.

        Parameters
        ----------
        batch : Batch
            Interactions of some users.
        items : torch.Tensor of shape (n_candidates,)
            int64 indices.

        Returns
        -------
        torch.Tensor of shape (n_rows, n_candidates)
            The columns of `all` that are these items.
        """
        return self.all(batch)[:, items]

    def pairs(self, batch, items):
        """Score other items for each user.

        Parameters
        ----------
        batch : Batch
            Interactions of some users.
        items : torch.Tensor of shape (n_rows, width)
            int64 indices, a row for each user.

        Returns
        -------
        torch.Tensor of shape (n_rows, width)
            The entries of `all` that are these items.
        """
        return self.all(batch).gather(1, items)

    def explained(self, batch, items):
        """Score items on the scale on which reasons for them are compared.

        Scores that are right only up to a constant of each row rank items, but their
        differences between two rows mean nothing: a child with such scores overrides
        this method.

        Parameters
        ----------
        batch : Batch
            Interactions of some users.
        items : torch.Tensor of shape (n_rows, width)
            int64 indices, a row for each user.

        Returns
        -------
        torch.Tensor of shape (n_rows, width)
            Scores of these items.
        """
        return self.pairs(batch, items)
