"""What variational recommenders share: training, growing, and what goes into files.

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

from sklearn_recvae._base import FitInterrupted, mean_ndcg, unchanged_on_error
from sklearn_recvae._batches import InteractionTensors
from sklearn_recvae._files import check_fields
from sklearn_recvae._hardware import call_with_threads, memory_hint, resolve_device
from sklearn_recvae._ids import check_begins_with, check_item_ids
from sklearn_recvae._inference import LatentScores
from sklearn_recvae._interactions import check_columns, check_interactions
from sklearn_recvae._latent import LatentRecommenderMixin
from sklearn_recvae._sklearn import (
    CallbackSupportMixin,
    Interval,
    StrOptions,
    _fit_context,
    validate_arguments,
    with_callbacks,
)
from sklearn_recvae._splitting import hold_out_users
from sklearn_recvae._training.callbacks import IterationHooks
from sklearn_recvae._training.checkpoints import CheckpointFolder, NoCheckpoints
from sklearn_recvae._training.fit import TrainingOptions, run_fit
from sklearn_recvae._training.state import (
    Progress,
    add_item_rows,
    as_records,
    check_best,
    history_from_json,
    history_to_json,
    new_training_state,
    restore_state,
    state_to_arrays,
)
from sklearn_recvae._validation import (
    COUNT,
    NON_NEGATIVE,
    POSITIVE,
    POSITIVE_INT,
    check_has_interactions,
    check_new_items,
    check_validation,
)


class VAERecommender(LatentRecommenderMixin, CallbackSupportMixin, BaseEstimator):
    """Base of recommenders that encode a row as a distribution over a latent space.

    A child has the parameters that training needs, see `TrainingOptions`, besides
    `validation_fraction`, `warm_start`, `device`, `random_state` and `verbose`. It
    has its own parameters, and these hooks: `_network_class`, `_sizes()`, what such a
    network is made of, `_build_objective(network)`, and, if there is more to check
    than the range of each parameter, `_check_parameters(X)`; if a value follows from X,
    `_set_from_data(X, continued)`.
    """

    # Of the parameters that all children have.
    _parameter_constraints: dict = {  # noqa: RUF012 - as in scikit-learn
        "noise_rate": [Interval(Real, 0, 1, closed="left")],
        "max_iter": [POSITIVE_INT],
        "max_seconds": [NON_NEGATIVE, None],
        "batch_size": [StrOptions({"auto"}), POSITIVE_INT],
        "learning_rate": [POSITIVE],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [POSITIVE_INT],
        "warm_start": ["boolean"],
        "device": [str],
        "precision": [StrOptions({"auto", "float32", "mixed"})],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    _network_class = None

    def _sizes(self):
        """Give what the network is made of, besides the number of items."""
        raise NotImplementedError

    def _build_objective(self, network):
        """Give what training of the network maximises, an `Objective`."""
        raise NotImplementedError

    def _check_parameters(self, X):
        """Raise an error if parameters contradict each other, or do not go with X."""

    def _set_from_data(self, X, continued):
        """Set what training takes from X, but keep it if training is continued."""

    def _build_network(self, n_items, sizes, seed):
        """Make a network with initial weights, on the CPU."""
        return self._network_class.build(n_items, *sizes, seed=seed)

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
            as if it had never been interrupted. Only `max_iter`, `max_seconds` and
            `verbose` may change. Each fit needs a folder of its own.
        item_ids : array-like of shape (n_items,), default=None
            Ids of the columns, numbers or strings, such as the `item_ids_` of the
            encoder that made X. :meth:`add_items` then refuses a catalogue in
            another order. Not for data frames, which have names.

        Returns
        -------
        self : estimator instance
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
        with folder, self._size_hint(X.shape[1], self._sizes()):
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
        self : estimator instance
            The fitted estimator.

        Raises
        ------
        ValueError
            As in :meth:`fit`. If training diverges, the weights of the last iteration
            are kept.
        """
        started = hasattr(self, "module_")
        X = self._check_training_interactions(X, reset=not started)
        self._set_from_data(X, started)
        # On a copy, so that an iteration that diverges leaves no trace.
        state = copy.deepcopy(getattr(self, "_state", None))
        if state is None:
            module = copy.deepcopy(self.module_) if started else None
            state = self._new_state(module, check_random_state(self.random_state))
        history = as_records(self.history_) if started else ()
        progress = Progress(state.module, history=history)
        hooks = IterationHooks(self, progress, X, y, 1)
        n_iterations = len(history) + 1
        options = TrainingOptions.of(
            self, max_iter=n_iterations, max_seconds=None, early_stopping=False
        )
        self._call_with_threads(
            X, lambda: self._train(X, state, progress, options, hooks)
        )
        self._keep(state, progress)
        hooks.end_fit()
        return self

    @unchanged_on_error
    @validate_arguments({"items": [COUNT, "array-like"]})
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
        self : estimator instance
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
        sizes = self.module_.sizes
        with self._size_hint(n_items, sizes):
            seed = int(rng.randint(2**31 - 1)) ^ n_items
            module = self._build_network(n_items, sizes, seed)
            before = getattr(self, "_state", None)
            if before is None:
                before = new_training_state(self.module_, int(rng.randint(2**31 - 1)))
            new_rows = {name: w.numpy() for name, w in module.state_dict().items()}
            arrays = add_item_rows(module, state_to_arrays(before), new_rows)
            state = new_training_state(module.to(self.module_.device), 0)
            restore_state(state, arrays)
        self.n_features_in_ = n_items
        if names is not None:
            self.feature_names_in_ = ids
        elif ids is not None:
            self.item_ids_ = ids
        self._state, self.module_ = state, state.module
        return self

    def _get_fitted(self):
        sizes, weights = self.module_.take_apart()
        attributes = {
            "sizes": sizes,
            "n_iter_": self.n_iter_,
            "best_iteration_": self.best_iteration_,
            "best_score_": self.best_score_,
            "history_": history_to_json(self.history_),
        }
        return attributes, weights

    def _set_fitted(self, attributes, arrays):
        check_fields(
            attributes,
            {
                "sizes": (list,),
                "n_iter_": (int,),
                "best_iteration_": (int, NoneType),
                "best_score_": (float, NoneType),
                "history_": (dict,),
            },
        )
        n_iter, best, score = (
            attributes[name] for name in ("n_iter_", "best_iteration_", "best_score_")
        )
        check_best(best, score, n_iter)
        self.history_ = history_from_json(attributes["history_"], n_iter)
        self.n_iter_, self.best_iteration_, self.best_score_ = n_iter, best, score
        self.module_ = self._network_class.rebuild(
            self.n_features_in_, *attributes["sizes"], weights=arrays
        )

    def _fit(self, X, y, X_val, y_val, module, folder):
        seed = folder.choose_seed(self.random_state)
        rng = check_random_state(seed)
        if self.early_stopping and X_val is None and y_val is None:
            X, X_val = hold_out_users(X, self.validation_fraction, rng)
        fold_in, held_out = check_validation(X_val, y_val)
        self._set_from_data(X, module is not None)
        state = self._new_state(module, rng)
        options = TrainingOptions.of(self)
        progress = Progress(state.module, options.ema_decay)
        matrices = {"X": X, "X_val": fold_in, "y_val": held_out}
        folder.resume(self, seed, matrices, options, state, progress)
        hooks = IterationHooks(self, progress, X, y, self.max_iter)
        try:
            self._train(
                X,
                state,
                progress,
                options,
                hooks,
                validate=_make_validation(fold_in, held_out, state.module.device),
                save=functools.partial(folder.save, state, progress),
            )
            self._keep(state, progress)
            hooks.end_fit()
        except KeyboardInterrupt as error:
            if not progress.history:
                raise
            state.catch_up()
            progress.give_best(state.module)
            self._keep(state, progress)
            raise FitInterrupted(self.n_iter_) from error
        return self

    def _train(self, X, state, progress, options, hooks, **calls):
        if state.module.sizes != self._sizes():
            raise ValueError(
                f"The fitted network has sizes {state.module.sizes}, but the "
                f"parameters now say {self._sizes()}; its weights cannot be trained "
                "on. Set them back, or fit anew with warm_start=False."
            )
        objective = self._build_objective(state.module)
        run_fit(X, state, progress, objective, options, hooks, **calls)

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
        resolve_device(self.device)
        check_has_interactions(X)
        self._check_parameters(X)

    def _new_state(self, module, rng):
        """Start the optimisers, and the module too where there is none yet."""
        device = resolve_device(self.device)
        # Two seeds: with one, the first noise would repeat the initial weights' bits.
        module_seed, training_seed = rng.randint(np.iinfo(np.int32).max, size=2)
        if module is None:
            module = self._build_network(
                self.n_features_in_, self._sizes(), int(module_seed)
            )
        return new_training_state(module.to(device), int(training_seed))

    def _call_with_threads(self, X, function):
        n_users = TrainingOptions.of(self).users_per_step(X.shape[0])
        _, n_others = self._network_class.count_weights(X.shape[1], *self._sizes())
        # A multiply-add for each user and weight, but for the first layer's, whose
        # input is sparse.
        step_work = min(n_users, X.shape[0]) * n_others
        return call_with_threads(step_work, function)

    def _size_hint(self, n_items, sizes):
        """Say in a MemoryError what a network takes, and what to do."""
        n_weights = sum(self._network_class.count_weights(n_items, *sizes))
        # Float32 weights, two moments for each, and a copy of the best ones.
        return memory_hint(
            f"A network of these sizes over {n_items} items takes "
            f"{4 * 4 * n_weights / 1e9:.1f} GB in training. Lower hidden_dim "
            "or latent_dim, or leave out rare items."
        )

    def __getstate__(self):
        state = super().__getstate__()
        # Twice the size of the weights, and needed by partial_fit alone.
        state.pop("_state", None)
        if "module_" in state:
            # Arrays: they are mapped from files, and no code has to be trusted.
            module = state["module_"]
            sizes, weights = module.take_apart()
            # In a fit of other columns n_features_in_ is another number already.
            sizes = [module.n_items, *sizes]
            state["module_"] = {"sizes": sizes, "weights": weights}
        return state

    def __setstate__(self, state):
        if "module_" in state:
            sizes, weights = state["module_"]["sizes"], state["module_"]["weights"]
            module = self._network_class.rebuild(*sizes, weights=weights)
            state = {**state, "module_": module}
        super().__setstate__(state)


def _make_validation(fold_in, held_out, device):
    """Return a function from a network to its validation score; None without data."""
    if held_out is None:
        return None
    tensors = InteractionTensors(fold_in, device)
    return lambda module: mean_ndcg(LatentScores(module), tensors, held_out)
