"""RecVAE: parameters, and what makes it different from other variational models."""

from numbers import Real
from types import NoneType

import numpy as np

from sklearn_recvae._files import check_fields
from sklearn_recvae._network import RecVAE
from sklearn_recvae._sklearn import Interval, StrOptions
from sklearn_recvae._training.objective import (
    CompositePrior,
    ConstantKL,
    MultinomialLikelihood,
    Objective,
    RescaledKL,
)
from sklearn_recvae._vae import VAERecommender
from sklearn_recvae._validation import (
    COUNT,
    NON_NEGATIVE,
    POSITIVE,
    POSITIVE_INT,
    check_frequent_items,
    check_kl_weight,
    check_prior_weights,
)

# gamma="auto" is this, divided by the mean feedback of a training user.
KL_PER_USER = 0.45
TINY = float(np.finfo(np.float32).tiny)


class RecVAERecommender(VAERecommender):
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
    gamma : float, "auto" or None, default="auto"
        Weight of a user's KL term per interaction (per unit of the row's sum). "auto"
        is 0.45 divided by the mean sum of a training user's row: near the paper's
        values on its data (0.005 for MovieLens-20M, 0.0035 for Netflix, 0.01 for the
        Million Song Dataset), and larger where histories are short. 0 turns the term
        off; None uses `beta`.
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
    max_seconds : float or None, default=None
        Seconds of a :meth:`fit` after which no other iteration begins; there is one in
        any case. None sets no limit.
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
    gamma_ : float or None
        The value of `gamma` in training. With "auto", of the users of the first fit:
        `partial_fit`, `add_items` and ``warm_start=True`` keep it.
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
        **VAERecommender._parameter_constraints,
        "latent_dim": [POSITIVE_INT],
        "hidden_dim": [POSITIVE_INT],
        "n_hidden_layers": [POSITIVE_INT],
        "dense_connections": ["boolean"],
        "gamma": [NON_NEGATIVE, StrOptions({"auto"}), None],
        "beta": [NON_NEGATIVE, None],
        "prior_weights": ["array-like"],
        "decoder_noise": ["boolean"],
        "alternating": ["boolean"],
        "n_encoder_epochs": [POSITIVE_INT],
        "n_decoder_epochs": [POSITIVE_INT],
        "ema_decay": [Interval(Real, 0, 1, closed="left")],
        "slim_interval": [POSITIVE_INT, None],
        "slim_regularization": [POSITIVE],
        "slim_min_count": [COUNT],
    }

    _network_class = RecVAE

    def __init__(
        self,
        latent_dim=200,
        *,
        hidden_dim=600,
        n_hidden_layers=5,
        dense_connections=True,
        gamma="auto",
        beta=None,
        prior_weights=(0.15, 0.75, 0.1),
        noise_rate=0.5,
        decoder_noise=False,
        alternating=True,
        n_encoder_epochs=3,
        n_decoder_epochs=1,
        max_iter=50,
        max_seconds=None,
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
        self.max_seconds = max_seconds
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

    def _sizes(self):
        return (
            int(self.latent_dim),  # a small integer of NumPy would wrap
            int(self.hidden_dim),
            int(self.n_hidden_layers),
            bool(self.dense_connections),
        )

    def _build_objective(self, network):
        gamma = self.gamma_ if isinstance(self.gamma, str) else self.gamma
        kl_weight = ConstantKL(self.beta) if gamma is None else RescaledKL(gamma)
        return Objective(MultinomialLikelihood(), self._build_prior(network), kl_weight)

    def _build_prior(self, network):
        """Give the prior; its weights, where it has any, are those of the network."""
        return CompositePrior([float(weight) for weight in self.prior_weights])

    def _check_parameters(self, X):
        check_kl_weight(self.gamma, self.beta)
        check_prior_weights(self.prior_weights)
        if self.slim_interval is not None:
            check_frequent_items(X, self.slim_min_count)

    def _set_from_data(self, X, continued):
        if not isinstance(self.gamma, str):
            self.gamma_ = None if self.gamma is None else float(self.gamma)
        elif not continued or self.gamma_ is None:
            mean_feedback = X.data.sum(dtype=np.float64) / X.shape[0]
            # Of rows that are all empty, the KL terms have no weight whatever gamma is.
            self.gamma_ = KL_PER_USER / max(float(mean_feedback), TINY)

    def _get_fitted(self):
        attributes, arrays = super()._get_fitted()
        return attributes | {"gamma_": self.gamma_}, arrays

    def _set_fitted(self, attributes, arrays):
        own = {name: attributes[name] for name in attributes.keys() & {"gamma_"}}
        check_fields(own, {"gamma_": (float, NoneType)})
        if own["gamma_"] is not None and not own["gamma_"] >= 0:
            raise ValueError(f"gamma_ is {own['gamma_']}, expected a number from 0 on")
        others = {name: attributes[name] for name in attributes.keys() - own.keys()}
        super()._set_fitted(others, arrays)
        self.gamma_ = own["gamma_"]
