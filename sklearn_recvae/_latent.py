"""What variational models give: lists, probabilities, latent variables, neighbours."""

import numpy as np
import torch
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_array, check_random_state
from sklearn.utils.validation import check_is_fitted

from sklearn_recvae import _inference as inference
from sklearn_recvae._base import RECOMMEND_CONSTRAINTS, RecommenderMixin, on_snapshot
from sklearn_recvae._batches import InteractionTensors
from sklearn_recvae._hardware import memory_hint
from sklearn_recvae._interactions import check_interactions
from sklearn_recvae._sklearn import validate_arguments
from sklearn_recvae._validation import POSITIVE_INT, check_item_indices


class LatentRecommenderMixin(
    RecommenderMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin
):
    """Mixin for an estimator whose `module_` is a trained `VariationalNetwork`."""

    @on_snapshot
    @validate_arguments(
        {
            **RECOMMEND_CONSTRAINTS,
            "sample": ["boolean"],
            "random_state": ["random_state"],
        }
    )
    def recommend(
        self,
        X,
        k=10,
        *,
        exclude_seen=True,
        items=None,
        exclude_items=None,
        return_scores=False,
        sample=False,
        random_state=None,
    ):
        """Rank the k best items for each row of X.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_users, n_items)
            Interactions of any users, seen in training or not.
        k : int, default=10
            Number of items for each user, at least 1; may exceed `n_items`.
        exclude_seen : bool, default=True
            Whether items of the row itself (entries > 0) are left out.
        items : array-like of int of shape (n_candidates,) or {array-like, sparse \
matrix} of shape (n_users, n_items), default=None
            Indices of the only items that may be recommended, or a matrix with an
            entry > 0 for each pair that may be; None means all.
        exclude_items : array-like of int of shape (n_excluded,) or {array-like, \
sparse matrix} of shape (n_users, n_items), default=None
            Indices of items that must not be recommended, to anyone, or a matrix with
            an entry > 0 for each pair that must not be.
        return_scores : bool, default=False
            Whether to return the scores too.
        sample : bool, default=False
            Whether the latent variables are drawn from the posterior, for variety,
            instead of being its mean.
        random_state : int, RandomState instance or None, default=None
            For the draw. Pass an int for the same lists at each call.

        Returns
        -------
        recommended : ndarray of shape (n_users, k)
            int64 item indices, best first; of equal scores the lower index is first.
            Where fewer than k candidates remain, the row is filled with -1.
        scores : ndarray of shape (n_users, k)
            Only if ``return_scores=True``: float32, what the items are ranked by, the
            log-probabilities up to a constant of each user; -inf where there is no
            item.

        Raises
        ------
        ValueError
            If X does not fit the model, a matrix does not fit X or names its columns
            differently, `k` is not positive, or an item index is out of range.
        """
        check_is_fitted(self)
        rng = check_random_state(random_state) if sample else None
        recommended, scores = self._recommend(
            inference.LatentScores(self.module_, rng),
            *(X, k, exclude_seen, items, exclude_items),
        )
        return (recommended, scores) if return_scores else recommended

    @on_snapshot
    def predict(self, X):
        """Compute the multinomial probabilities of all items.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_users, n_items)
            Interactions of any users, seen in training or not.

        Returns
        -------
        probabilities : ndarray of shape (n_users, n_items)
            float32. Rows sum to 1; items of the row itself are not masked. For large
            matrices prefer :meth:`recommend`, which never holds all of them.
        """
        check_is_fitted(self)
        Z = self._encode(X)
        with memory_hint("Use recommend, or predict for fewer rows at a time."):
            return inference.decode(self.module_, Z)

    @on_snapshot
    def transform(self, X):
        """Compute the posterior means of the latent variables.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_users, n_items)
            Interactions of any users, seen in training or not.

        Returns
        -------
        Z : ndarray of shape (n_users, latent_dim)
            float32.
        """
        check_is_fitted(self)
        return self._encode(X)

    @on_snapshot
    def inverse_transform(self, Z):
        """Compute the multinomial probabilities of latent vectors.

        Parameters
        ----------
        Z : array-like of shape (n_users, latent_dim)
            Latent vectors, such as :meth:`transform` returns.

        Returns
        -------
        probabilities : ndarray of shape (n_users, n_items)
            float32, rows sum to 1.

        Raises
        ------
        ValueError
            If Z has another width than the latent space.
        """
        check_is_fitted(self)
        Z = check_array(Z, dtype=np.float32, input_name="Z")
        if Z.shape[1] != self.module_.latent_dim:
            raise ValueError(
                f"Z has {Z.shape[1]} columns, but the latent space has "
                f"{self.module_.latent_dim}. Pass vectors such as transform returns."
            )
        return inference.decode(self.module_, Z)

    @on_snapshot
    @validate_arguments({"k": [POSITIVE_INT], "return_scores": ["boolean"]})
    def similar_items(self, items, k=10, *, return_scores=False):
        """Rank the items nearest to each of some items.

        Nearness is the cosine of the items' rows in the decoder's weight matrix.

        Parameters
        ----------
        items : array-like of int of shape (n_queries,)
            Indices of the items to start from.
        k : int, default=10
            Number of neighbors for each, at least 1; may exceed `n_items`.
        return_scores : bool, default=False
            Whether to return the cosines too.

        Returns
        -------
        neighbors : ndarray of shape (n_queries, k)
            int64 item indices, nearest first, without the item itself. Where fewer
            than k other items exist, the row is filled with -1.
        scores : ndarray of shape (n_queries, k)
            Only if ``return_scores=True``: float32 cosines; -inf where there is no
            item.

        Raises
        ------
        ValueError
            If an item index is out of range.
        """
        check_is_fitted(self)
        items = check_item_indices(items, "items", self.n_features_in_)
        items = torch.tensor(items, device=self.module_.device)
        vectors = inference.Decoder(self.module_).item_vectors
        neighbors, scores = inference.nearest(vectors, vectors[items], k, own=items)
        return (neighbors, scores) if return_scores else neighbors

    @on_snapshot
    @validate_arguments(
        {
            "others": ["array-like", "sparse matrix", None],
            "k": [POSITIVE_INT],
            "return_scores": ["boolean"],
        }
    )
    def similar_users(self, X, k=10, *, others=None, return_scores=False):
        """Rank the users nearest to each user.

        Nearness is the cosine of their posterior means.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_users, n_items)
            Interactions of any users, seen in training or not.
        k : int, default=10
            Number of neighbors for each, at least 1; may exceed their number.
        others : {array-like, sparse matrix} of shape (n_others, n_items), default=None
            Interactions of the users to be ranked. None means the users of X, each
            without themselves.
        return_scores : bool, default=False
            Whether to return the cosines too.

        Returns
        -------
        neighbors : ndarray of shape (n_users, k)
            int64 rows of `others`, nearest first; -1 where none is left.
        scores : ndarray of shape (n_users, k)
            Only if ``return_scores=True``: float32 cosines; -inf where none is left.
        """
        check_is_fitted(self)
        queries = torch.tensor(self._encode(X))
        own, vectors = torch.arange(len(queries)), queries
        if others is not None:
            own, vectors = None, torch.tensor(self._encode(others))
        neighbors, scores = inference.nearest(vectors, queries, k, own=own)
        return (neighbors, scores) if return_scores else neighbors

    @property
    def _n_features_out(self):
        return self.module_.latent_dim

    def _item_scores(self):
        return inference.LatentScores(self.module_)

    def _encode(self, X):
        X = check_interactions(self, X, reset=False)
        return inference.encode(
            self.module_, InteractionTensors(X, self.module_.device)
        )

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags
