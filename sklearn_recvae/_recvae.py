"""The estimator: parameters, training, and what goes into files.

What a trained one gives, from `predict` to `similar_users`, is in `_latent`.
"""

import copy
import functools
from numbers import Real
from types import NoneType

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from sklearn_recvae import _inference as inference
from sklearn_recvae._base import (
    FitInterrupted,
    mean_ndcg,
    unchanged_on_error,
)
from sklearn_recvae._batches import InteractionTensors
from sklearn_recvae._files import check_arrays, check_fields
from sklearn_recvae._hardware import (
    call_with_threads,
    memory_hint,
    resolve_device,
    resolve_matmul_dtype,
)
from sklearn_recvae._ids import check_begins_with, check_item_ids
from sklearn_recvae._interactions import check_columns, check_interactions
from sklearn_recvae._latent import LatentRecommenderMixin
from sklearn_recvae._network import (
    build_recvae,
    rebuild_recvae,
    step_work,
    training_bytes,
)
from sklearn_recvae._saving import as_json
from sklearn_recvae._sklearn import (
    CallbackSupportMixin,
    Interval,
    StrOptions,
    _fit_context,
    validate_params,
    with_callbacks,
)
from sklearn_recvae._splitting import hold_out_users
from sklearn_recvae._training.callbacks import IterationHooks
from sklearn_recvae._training.checkpoints import CheckpointFolder, NoCheckpoints
from sklearn_recvae._training.state import (
    Progress,
    add_item_rows,
    as_records,
    check_best,
    describe_history,
    new_training_state,
    restore_state,
    state_to_arrays,
    with_prefix,
)
from sklearn_recvae._training.trainer import Trainer, auto_batch_size, train
from sklearn_recvae._validation import (
    COUNT,
    NON_NEGATIVE,
    POSITIVE,
    POSITIVE_INT,
    check_frequent_items,
    check_has_interactions,
    check_kl_weight,
    check_new_items,
    check_prior_weights,
    check_validation,
)


class RecVAERecommender(LatentRecommenderMixin, CallbackSupportMixin, BaseEstimator):
    """Recommend items from implicit feedback with a variational autoencoder.

    RecVAE [1]_ encodes a user's row of interactions as a Gaussian over a latent
    space, and decodes a point of it to a multinomial distribution over all items.

    1. The encoder is a densely connected network; the decoder is linear.
    2. The prior is composite: a mixture of the standard normal, the user's own
       posterior as it was before the last encoder phase, and a wide normal.
    3. The KL term of a user is weighted by `gamma` times the user's feedback.
    4. Training alternates between an encoder that sees noised rows and a decoder
       that sees clean ones.

    Rows are samples and users are rows: a user who was not seen in training needs no
    retraining, and cross-validation over rows measures exactly that. Matrices are
    sparse throughout.

    Read more in the :ref:`User Guide <how_recvae_works>`.

    Parameters
    ----------
    latent_dim : int, default=200
        Width of the latent space.
    hidden_dim : int, default=600
        Width of the encoder's hidden layers.
    n_hidden_layers : int, default=5
        Number of the encoder's hidden layers.
    dense_connections : bool, default=True
        Whether each hidden layer also receives the sum of all earlier ones.
    gamma : float or None, default=0.005
        Weight of a user's KL term per interaction (per unit of the row's sum). The
        paper has 0.005 for MovieLens-20M, 0.0035 for Netflix, 0.01 for the Million
        Song Dataset. 0 turns the term off; None uses `beta`.
    beta : float or None, default=None
        The same weight of the KL term for every user; needs ``gamma=None``.
    prior_weights : array-like of 3 floats, default=(0.15, 0.75, 0.1)
        Weights of the standard normal, the old posterior and the wide normal in the
        composite prior. Non-negative with sum 1; ``(1, 0, 0)`` is the plain prior.
    noise_rate : float, default=0.5
        Probability in [0, 1) with which an interaction is dropped from what the
        encoder sees in training.
    decoder_noise : bool, default=False
        Whether the decoder is trained on noised rows too. No effect if
        ``alternating=False``.
    alternating : bool, default=True
        Whether encoder and decoder are trained in turn. Otherwise an iteration is one
        joint pass of both, with noise.
    n_encoder_epochs : int, default=3
        Encoder passes over the users in each iteration. No effect if
        ``alternating=False``.
    n_decoder_epochs : int, default=1
        Decoder passes over the users in each iteration. No effect if
        ``alternating=False``.
    max_iter : int, default=50
        Number of iterations, each of `n_encoder_epochs` + `n_decoder_epochs` passes.
    batch_size : int or "auto", default="auto"
        Users in a step. "auto" is the paper's 500 for 16,000 users or more and
        smaller where users are few, so that a pass has enough steps.
    learning_rate : float, default=5e-4
        Step size of both Adam optimisers.
    ema_decay : float, default=0.0
        What is validated and kept is an exponential moving average of the weights
        after each iteration, of which this share in [0, 1) stays in the next one. 0
        keeps the weights of one iteration, as the paper does. No effect in
        :meth:`partial_fit`.
    slim_interval : int or None, default=None
        Apply ImplicitSLIM [2]_ before every so many iterations: item embeddings, in
        the first layer and in the decoder, move to where a linear item-item model
        would reconstruct them from each other. None is the paper's RecVAE; the
        authors of ImplicitSLIM have 10.
    slim_regularization : float, default=200
        What ImplicitSLIM adds to the diagonal of the item-item Gram matrix. Used if
        `slim_interval` is not None.
    slim_min_count : int, default=20
        Items with fewer interactions in X do not hold the embeddings near where
        training has them. Used if `slim_interval` is not None.
    early_stopping : bool, default=False
        Whether to stop when the validation score no longer improves. Without `X_val`
        in :meth:`fit`, `validation_fraction` of the users are held out for it.
    validation_fraction : float, default=0.1
        Share of users to hold out in (0, 1). Used if ``early_stopping=True`` and
        there is no `X_val`.
    n_iter_no_change : int, default=10
        Iterations without a better validation score after which to stop. Used if
        ``early_stopping=True``.
    warm_start : bool, default=False
        Whether :meth:`fit` begins with the weights of the last fit.
    device : str, default="auto"
        "auto" is CUDA if there is one, else the CPU. Or the name of a torch device,
        such as "cpu", "cuda:1" or "mps".
    precision : {"auto", "float32", "mixed"}, default="auto"
        What the large matrix products of training are computed in. "mixed" is
        bfloat16 for these and float32 for all else; "auto" is mixed where the
        hardware has native bfloat16 and torch makes use of it. Everything but
        training is float32.
    random_state : int, RandomState instance or None, default=None
        Seeds initial weights, order of users, noise and samples. Pass an int for
        results that can be reproduced on the same machine.
    verbose : int, default=0
        Whether to print a line for each iteration.

    Attributes
    ----------
    n_features_in_ : int
        Number of items seen during :meth:`fit`.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the items, if X has feature names that are all strings.
    item_ids_ : ndarray of shape (`n_features_in_`,)
        Ids of the items, if :meth:`fit` was given them.
    n_iter_ : int
        Number of iterations run.
    best_iteration_ : int or None
        Iteration whose weights were kept, counted from 1; None without validation.
    best_score_ : float or None
        Validation NDCG@100 at that iteration; None without validation.
    history_ : dict of ndarray of shape (`n_iter_`,)
        An entry an iteration: "likelihood" and "kl", the means over users and encoder
        passes in training, "validation_score" (NaN without validation), "seconds".
    module_ : torch.nn.Module
        The trained network.

    See Also
    --------
    sklearn_recvae.metrics.ranking_scorer : Scorers for tuning, with other metrics.
    sklearn_recvae.model_selection.strong_generalization_split : The paper's protocol.

    Notes
    -----
    The mixture of the prior is taken in each latent dimension, the wide component has
    log-variance 10, and the old posteriors are kept for each user, as in the code
    that accompanies the paper.

    References
    ----------
    .. [1] I. Shenbin, A. Alekseev, E. Tutubalina, V. Malykh, S. I. Nikolenko (2020).
       RecVAE: a New Variational Autoencoder for Top-N Recommendations with Implicit
       Feedback. WSDM 2020. https://doi.org/10.1145/3336191.3371831
    .. [2] I. Shenbin, S. I. Nikolenko (2024). ImplicitSLIM and How it Improves
       Embedding-based Collaborative Filtering. ICLR 2024.
       https://arxiv.org/abs/2406.00198

    Examples
    --------
    >>> from sklearn_recvae import RecVAERecommender
    >>> from sklearn_recvae.datasets import make_interactions
    >>> X, _, _ = make_interactions(200, 50, random_state=0)
    >>> model = RecVAERecommender(16, hidden_dim=32, max_iter=5, random_state=0)
    >>> model.fit(X[:150]).recommend(X[150:], k=3).shape
    (50, 3)
    >>> model.predict(X[150:]).shape
    (50, 50)
    """

    _parameter_constraints: dict = {  # noqa: RUF012 - as in scikit-learn
        "latent_dim": [POSITIVE_INT],
        "hidden_dim": [POSITIVE_INT],
        "n_hidden_layers": [POSITIVE_INT],
        "dense_connections": ["boolean"],
        "gamma": [NON_NEGATIVE, None],
        "beta": [NON_NEGATIVE, None],
        "prior_weights": ["array-like"],
        "noise_rate": [Interval(Real, 0, 1, closed="left")],
        "decoder_noise": ["boolean"],
        "alternating": ["boolean"],
        "n_encoder_epochs": [POSITIVE_INT],
        "n_decoder_epochs": [POSITIVE_INT],
        "max_iter": [POSITIVE_INT],
        "batch_size": [StrOptions({"auto"}), POSITIVE_INT],
        "learning_rate": [POSITIVE],
        "ema_decay": [Interval(Real, 0, 1, closed="left")],
        "slim_interval": [POSITIVE_INT, None],
        "slim_regularization": [POSITIVE],
        "slim_min_count": [COUNT],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [POSITIVE_INT],
        "warm_start": ["boolean"],
        "device": [str],
        "precision": [StrOptions({"auto", "float32", "mixed"})],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        latent_dim=200,
        *,
        hidden_dim=600,
        n_hidden_layers=5,
        dense_connections=True,
        gamma=0.005,
        beta=None,
        prior_weights=(0.15, 0.75, 0.1),
        noise_rate=0.5,
        decoder_noise=False,
        alternating=True,
        n_encoder_epochs=3,
        n_decoder_epochs=1,
        max_iter=50,
        batch_size="auto",
        learning_rate=5e-4,
        ema_decay=0.0,
        slim_interval=None,
        slim_regularization=200.0,
        slim_min_count=20,
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=10,
        warm_start=False,
        device="auto",
        precision="auto",
        random_state=None,
        verbose=0,
    ):
        self.latent_dim = latent_dim
        self.hidden_dim = hidden_dim
        self.n_hidden_layers = n_hidden_layers
        self.dense_connections = dense_connections
        self.gamma = gamma
        self.beta = beta
        self.prior_weights = prior_weights
        self.noise_rate = noise_rate
        self.decoder_noise = decoder_noise
        self.alternating = alternating
        self.n_encoder_epochs = n_encoder_epochs
        self.n_decoder_epochs = n_decoder_epochs
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.ema_decay = ema_decay
        self.slim_interval = slim_interval
        self.slim_regularization = slim_regularization
        self.slim_min_count = slim_min_count
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.warm_start = warm_start
        self.device = device
        self.precision = precision
        self.random_state = random_state
        self.verbose = verbose

    @unchanged_on_error  # outermost: callbacks are torn down before it acts
    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    @torch.inference_mode(False)  # wherever the caller is: autograd is needed
    def fit(self, X, y=None, *, X_val=None, y_val=None, checkpoint=None, item_ids=None):
        """Train on the rows of X.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_users, n_items)
            Non-negative interactions, the weights of the multinomial likelihood. An
            entry > 0 is an interaction; ratings must be thresholded first.
        y : Ignored
            Not used, present here for API consistency by convention.
        X_val : {array-like, sparse matrix} of shape (n_val_users, n_items), \
default=None
            Rows of other users, for validation: the iteration with the best NDCG@100
            is kept. Without `y_val` each row is split as in :meth:`score`.
        y_val : {array-like, sparse matrix} of shape (n_val_users, n_items), \
default=None
            Held-out interactions of the validation users; `X_val` is then the fold-in
            part.
        checkpoint : path-like, default=None
            A folder for the state of training after each iteration, from which a
            later call with the same parameters and data goes on, to the same result
            as if it had never been interrupted. Only `max_iter` and `verbose` may
            change. Each fit needs a folder of its own.
        item_ids : array-like of shape (n_items,), default=None
            Ids of the columns, numbers or strings, such as the `item_ids_` of the
            encoder that made X. :meth:`add_items` then refuses a catalogue in
            another order. Not for data frames, which have names.

        Returns
        -------
        self : RecVAERecommender
            The fitted estimator.

        Raises
        ------
        ValueError
            If X is not a matrix of non-negative finite numbers with at least one
            interaction, if parameters contradict each other, if `y_val` is given
            without `X_val`, if no validation user can be evaluated, if `item_ids` do
            not fit X, if training diverges, or if `checkpoint` is the folder of
            another fit, or of one that is running. The estimator is then as it was
            before.
        KeyboardInterrupt
            If the user interrupts training. With at least one whole iteration the
            estimator is fitted then: with the best one by validation, else with the
            weights as they stand.
        """
        continued = self.warm_start and hasattr(self, "module_")
        X = self._check_training_interactions(X, reset=not continued)
        check_columns(self, X_val, {"y_val": y_val})
        self._hold_item_ids(item_ids, continued)
        if X_val is not None:
            X_val = check_interactions(self, X_val, reset=False)
        module = copy.deepcopy(self.module_) if continued else None
        folder = NoCheckpoints()
        if checkpoint is not None:
            folder = CheckpointFolder(checkpoint)
        with folder, _size_hint(X.shape[1], self._sizes()):
            return self._call_with_threads(
                X, lambda: self._fit(X, y, X_val, y_val, module, folder)
            )

    @unchanged_on_error
    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    @torch.inference_mode(False)  # wherever the caller is: autograd is needed
    def partial_fit(self, X, y=None):
        """Train for one more iteration, on these users.

        The weights, the moments of the optimisers and the stream of random numbers go
        on from the last call of `fit` or `partial_fit`; a first call begins anew. (The
        moments are not pickled: after loading they begin anew.) There is no
        validation.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_users, n_items)
            Non-negative interactions of known or new users, over the same items.
        y : Ignored
            Not used, present here for API consistency by convention.

        Returns
        -------
        self : RecVAERecommender
            The fitted estimator.

        Raises
        ------
        ValueError
            As in :meth:`fit`. If training diverges, the weights of the last iteration
            are kept.
        """
        started = hasattr(self, "module_")
        X = self._check_training_interactions(X, reset=not started)
        # On a copy, so that an iteration that diverges leaves no trace.
        state = copy.deepcopy(getattr(self, "_state", None))
        if state is None:
            module = copy.deepcopy(self.module_) if started else None
            state = self._new_state(module, check_random_state(self.random_state))
        history = as_records(self.history_) if started else ()
        progress = Progress(state.module, history=history)
        hooks = IterationHooks(self, progress, X, y, 1)
        self._call_with_threads(
            X,
            lambda: train(
                self._trainer(state, X, len(history)),
                hooks,
                progress,
                max_iter=len(history) + 1,
            ),
        )
        self._keep(state, progress)
        hooks.end_fit()
        return self

    @unchanged_on_error
    @validate_params(
        {"items": [COUNT, "array-like"]}, prefer_skip_nested_validation=True
    )
    @torch.inference_mode(False)
    def add_items(self, items):
        """Enlarge the catalogue by items at the end.

        They get rows of their own in the first layer and in the decoder, drawn as at
        the start of training, and the lowest bias of all: until :meth:`partial_fit`
        has trained them they are hardly recommended. Everything else stays, the
        moments of the optimisers too.

        Parameters
        ----------
        items : int or array-like of shape (n_items,)
            How many items are new. An estimator that was fitted with `item_ids`, or
            with feature names, wants the ids of all items instead: first those that
            it knows, in the same order, then the new ones. Without new ones nothing
            happens.

        Returns
        -------
        self : RecVAERecommender
            The fitted estimator, for matrices with more columns.

        Raises
        ------
        ValueError
            If the estimator knows ids and `items` does not begin with them, or if it
            knows none and ids are given.
        """
        check_is_fitted(self)
        names = getattr(self, "feature_names_in_", None)
        known = getattr(self, "item_ids_", names)
        n_new, ids = check_new_items(items, known)
        if not n_new:
            return self
        rng = check_random_state(self.random_state)
        n_items = self.n_features_in_ + n_new
        with _size_hint(n_items, self.module_.sizes):
            module = build_recvae(
                n_items, *self.module_.sizes, seed=int(rng.randint(2**31 - 1)) ^ n_items
            )
            before = getattr(self, "_state", None)
            if before is None:
                before = new_training_state(self.module_, int(rng.randint(2**31 - 1)))
            new_rows = {name: w.numpy() for name, w in module.state_dict().items()}
            state = new_training_state(module.to(self.module_.device), 0)
            restore_state(state, add_item_rows(state_to_arrays(before), new_rows))
        self.n_features_in_ = n_items
        if names is not None:
            self.feature_names_in_ = ids
        elif ids is not None:
            self.item_ids_ = ids
        self._state, self.module_ = state, state.module
        return self

    def _get_fitted(self):
        attributes = {
            "sizes": as_json("sizes", self.module_.sizes),
            "n_iter_": self.n_iter_,
            "best_iteration_": self.best_iteration_,
            "best_score_": self.best_score_,
        }
        weights = self.module_.state_dict()
        arrays = {f"module_.{name}": w.cpu().numpy() for name, w in weights.items()}
        history = {f"history_.{name}": c for name, c in self.history_.items()}
        return attributes, arrays | history

    def _set_fitted(self, attributes, arrays):
        check_fields(
            attributes,
            {
                "sizes": (list,),
                "n_iter_": (int,),
                "best_iteration_": (int, NoneType),
                "best_score_": (float, NoneType),
            },
        )
        n_iter, best, score = (
            attributes[name] for name in ("n_iter_", "best_iteration_", "best_score_")
        )
        weights = with_prefix("module_.", arrays)
        others = {
            name: array
            for name, array in arrays.items()
            if not name.startswith("module_.")
        }
        check_arrays(others, describe_history("history_.", n_iter))
        check_best(best, score, n_iter)
        self.module_ = rebuild_recvae(
            self.n_features_in_, *attributes["sizes"], weights=weights
        )
        self.history_ = with_prefix("history_.", arrays)
        self.n_iter_, self.best_iteration_, self.best_score_ = n_iter, best, score

    def _fit(self, X, y, X_val, y_val, module, folder):
        seed = folder.choose_seed(self.random_state)
        rng = check_random_state(seed)
        if self.early_stopping and X_val is None and y_val is None:
            X, X_val = hold_out_users(X, self.validation_fraction, rng)
        fold_in, held_out = check_validation(X_val, y_val)
        state = self._new_state(module, rng)
        progress = Progress(state.module, self.ema_decay)
        matrices = {"X": X, "X_val": fold_in, "y_val": held_out}
        folder.resume(self, seed, matrices, self._matmul_dtype(state), state, progress)
        validate = None
        if held_out is not None:
            tensors = InteractionTensors(fold_in, state.module.device)

            def validate():
                scores = inference.LatentScores(progress.module)
                return mean_ndcg(scores, tensors, held_out)

        hooks = IterationHooks(self, progress, X, y, self.max_iter)
        hooks.n_done = len(progress.history)
        try:
            train(
                self._trainer(state, X, len(progress.history)),
                hooks,
                progress,
                max_iter=self.max_iter,
                validate=validate,
                patience=self.n_iter_no_change if self.early_stopping else None,
                save=functools.partial(folder.save, state, progress),
            )
            self._keep(state, progress)
            hooks.end_fit()
        except KeyboardInterrupt as error:
            if not progress.history:
                raise
            state.input_optimizer.catch_up()
            progress.give_best(state.module)
            self._keep(state, progress)
            raise FitInterrupted(self.n_iter_) from error
        return self

    def _keep(self, state, progress):
        """Take over what training has come to."""
        fitted = {"_state": state, "module_": state.module, **progress.to_attributes()}
        for name, value in fitted.items():
            setattr(self, name, value)

    def _hold_item_ids(self, item_ids, continued):
        """Keep the ids of the columns; those of weights that are trained on stay."""
        if item_ids is None:
            if not continued:
                vars(self).pop("item_ids_", None)
            return
        if hasattr(self, "feature_names_in_"):
            raise ValueError(
                "Got item_ids, but X has feature names, which are the ids of its "
                "columns. Pass X without names, or no item_ids."
            )
        ids = check_item_ids(item_ids, self.n_features_in_)
        if continued and hasattr(self, "item_ids_"):
            check_begins_with(ids.tolist(), self.item_ids_.tolist(), "item_ids")
        self.item_ids_ = ids

    def _check_training_interactions(self, X, *, reset):
        X = check_interactions(self, X, reset=reset)
        self._check_before_fit(X)
        return X

    def _check_before_fit(self, X):
        check_kl_weight(self.gamma, self.beta)
        check_prior_weights(self.prior_weights)
        resolve_device(self.device)
        check_has_interactions(X)
        if self.slim_interval is not None:
            check_frequent_items(X, self.slim_min_count)

    def _new_state(self, module, rng):
        """Start the optimisers, and the module too where there is none yet."""
        device = resolve_device(self.device)
        # Two seeds: with one, the first noise would repeat the initial weights' bits.
        module_seed, training_seed = rng.randint(np.iinfo(np.int32).max, size=2)
        if module is None:
            module = build_recvae(
                self.n_features_in_,
                *self._sizes(),
                seed=int(module_seed),
            )
        return new_training_state(module.to(device), int(training_seed))

    def _sizes(self):
        return (
            int(self.latent_dim),  # a small integer of NumPy would wrap
            int(self.hidden_dim),
            int(self.n_hidden_layers),
            self.dense_connections,
        )

    def _trainer(self, state, X, n_iterations):
        if state.module.sizes != self._sizes():
            raise ValueError(
                "The fitted network has (latent_dim, hidden_dim, n_hidden_layers, "
                f"dense_connections) = {state.module.sizes}, but the parameters are "
                f"now {self._sizes()}; its weights cannot be trained on. Set them "
                "back, or fit anew with warm_start=False."
            )
        device = state.module.device
        return Trainer(
            state,
            InteractionTensors(X, device),
            gamma=self.gamma,
            beta=self.beta,
            prior_weights=[float(weight) for weight in self.prior_weights],
            noise_rate=self.noise_rate,
            decoder_noise=self.decoder_noise,
            alternating=self.alternating,
            n_encoder_epochs=self.n_encoder_epochs,
            n_decoder_epochs=self.n_decoder_epochs,
            batch_size=self._batch_size(X),
            learning_rate=self.learning_rate,
            slim_interval=self.slim_interval,
            slim_regularization=self.slim_regularization,
            slim_min_count=self.slim_min_count,
            n_iterations=n_iterations,
            matmul_dtype=self._matmul_dtype(state),
        )

    def _batch_size(self, X):
        if self.batch_size == "auto":
            return auto_batch_size(X.shape[0])
        return int(self.batch_size)

    def _call_with_threads(self, X, function):
        n_rows = min(self._batch_size(X), X.shape[0])
        work = step_work(n_rows, X.shape[1], *self._sizes())
        return call_with_threads(work, function)

    def _matmul_dtype(self, state):
        return resolve_matmul_dtype(self.precision, state.module.device)

    def __getstate__(self):
        state = super().__getstate__().copy()
        # Twice the size of the weights, and needed by partial_fit alone.
        state.pop("_state", None)
        if "module_" in state:
            # So that a model trained on a GPU loads where there is none.
            state["module_"] = copy.deepcopy(state["module_"]).cpu()
        return state


def _size_hint(n_items, sizes):
    """Say in a MemoryError what a network takes, and what to do."""
    return memory_hint(
        f"A network of these sizes over {n_items} items takes "
        f"{training_bytes(n_items, *sizes) / 1e9:.1f} GB in training. Lower hidden_dim "
        "or latent_dim, or leave out rare items."
    )
