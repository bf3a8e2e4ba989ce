"""Mult-VAE and Mult-DAE: network, annealed weight of the KL term, parameters."""

import math
from numbers import Real

import torch
from torch import nn

from sklearn_recvae._kernels import linear
from sklearn_recvae._network import BLANK, SparseLinear, VariationalNetwork
from sklearn_recvae._sklearn import Interval
from sklearn_recvae._training.objective import (
    MultinomialLikelihood,
    Objective,
    StandardNormalPrior,
)
from sklearn_recvae._vae import VAERecommender
from sklearn_recvae._validation import COUNT, NON_NEGATIVE, POSITIVE_INT

BIAS_SCALE = 1e-3  # standard deviation of the first biases


class AnnealedKL:
    """A weight of the KL term that grows linearly, the same for all users.

    Parameters
    ----------
    beta : float
        The weight at the end.
    n_annealing_steps : int
        How many steps it takes to get there.
    """

    def __init__(self, beta, n_annealing_steps):
        self.beta = beta
        self.n_annealing_steps = n_annealing_steps

    def weights(self, totals, n_steps):
        """Give the weight of each user's term.

        Parameters
        ----------
        totals : torch.Tensor of shape (n_rows,)
            Their number counts, not their values.
        n_steps : int
            Number of steps that have been taken; the first one is taken with weight 0.

        Returns
        -------
        torch.Tensor of shape (n_rows,)
            The weights.
        """
        share = 1.0
        if n_steps < self.n_annealing_steps:
            share = n_steps / self.n_annealing_steps
        return torch.full_like(totals, share * self.beta)


class NoPrior:
    """Where there is no posterior, there is nothing to compare it with."""

    uses_old_posterior = False

    def kl(self, draw, old):
        """Give zeros.

        Parameters
        ----------
        draw : Draw
            Says how many users there are.
        old : None
            Not used.

        Returns
        -------
        torch.Tensor of shape (n_rows,)
            Zeros.
        """
        return draw.mean.new_zeros(len(draw.mean))


class TanhEncoder(nn.Module):
    """The inference network: a row of interactions to a Gaussian posterior, or a point.

    Parameters
    ----------
    n_items : int
        Number of columns of the interaction matrix.
    latent_dim : int
        Width of the posterior.
    hidden_dim : int
        Width of the hidden layer.
    variational : bool
        Whether there is a variance.
    """

    def __init__(self, n_items, latent_dim, hidden_dim, variational):
        super().__init__()
        self.input = SparseLinear(n_items, hidden_dim)
        # Mean and log-variance side by side: one product instead of two.
        width = latent_dim * (2 if variational else 1)
        self.posterior = nn.Linear(hidden_dim, width, **BLANK)
        self.variational = variational

    def forward(self, batch, matmul_dtype=None, sums=None):
        """Encode the rows of a batch.

        Parameters
        ----------
        batch : Batch
            The rows.
        matmul_dtype : torch.dtype, default=None
            Of the large products.
        sums : torch.Tensor of shape (n_rows, hidden), default=None
            The batch times the first weight, where it is at hand already.

        Returns
        -------
        mean : torch.Tensor of shape (n_rows, latent)
            Of the posterior.
        log_variance : torch.Tensor of shape (n_rows, latent) or None
            None if there is no variance.
        """
        h = tanh(self.input(batch, sums), matmul_dtype)  # (n_rows, hidden)
        head = self.posterior
        posterior = linear(h, head.weight, head.bias, matmul_dtype=matmul_dtype)
        if self.variational:
            return posterior.chunk(2, dim=1)
        return tanh(posterior, matmul_dtype), None


class MultVAE(VariationalNetwork):
    """The encoder above, and a decoder with a hidden layer.

    Parameters
    ----------
    n_items : int
        Number of columns of the interaction matrix.
    latent_dim : int
        Width of the latent space.
    hidden_dim : int
        Width of both hidden layers.
    variational : bool
        Whether there is a variance.
    """

    size_types = (int, int, bool)
    output_name = "decoder.output"

    def __init__(self, n_items, latent_dim, hidden_dim, variational):
        super().__init__((latent_dim, hidden_dim, variational))
        self.encoder = TanhEncoder(n_items, latent_dim, hidden_dim, variational)
        self.decoder = nn.Module()
        self.decoder.hidden = nn.Linear(latent_dim, hidden_dim, **BLANK)
        self.decoder.output = nn.Linear(hidden_dim, n_items, **BLANK)

    def expand(self, z, matmul_dtype=None):
        """Compute the hidden layer of the decoder.

        Parameters
        ----------
        z : torch.Tensor of shape (n_rows, latent)
            Latent variables.
        matmul_dtype : torch.dtype, default=None
            Of the large products.

        Returns
        -------
        torch.Tensor of shape (n_rows, hidden)
            What the last layer gets.
        """
        hidden = self.decoder.hidden
        pre = linear(z, hidden.weight, hidden.bias, matmul_dtype=matmul_dtype)
        return tanh(pre, matmul_dtype)

    @property
    def latent_dim(self):
        """Width of the latent space."""
        return self.decoder.hidden.in_features

    @staticmethod
    def weight_shapes(n_items, latent_dim, hidden_dim, variational):
        """Yield name and shape of each weight, for sizes of any magnitude.

        Parameters
        ----------
        n_items, latent_dim, hidden_dim, variational
            As in the constructor.

        Yields
        ------
        name : str
            As in its `state_dict`.
        shape : tuple of int
            Of the weight.
        """
        width = latent_dim * (2 if variational else 1)
        yield "encoder.input.weight", (n_items, hidden_dim)
        yield "encoder.input.bias", (hidden_dim,)
        yield "encoder.posterior.weight", (width, hidden_dim)
        yield "encoder.posterior.bias", (width,)
        yield "decoder.hidden.weight", (hidden_dim, latent_dim)
        yield "decoder.hidden.bias", (hidden_dim,)
        yield "decoder.output.weight", (n_items, hidden_dim)
        yield "decoder.output.bias", (n_items,)

    @torch.no_grad()
    def reset_parameters(self, generator):
        """Draw the weights as the authors do.

        Parameters
        ----------
        generator : torch.Generator
            On the CPU, so that every device starts alike.
        """
        for weight in self.parameters():
            if weight.ndim == 1:
                ends = -2 * BIAS_SCALE, 2 * BIAS_SCALE
                nn.init.trunc_normal_(weight, 0, BIAS_SCALE, *ends, generator=generator)
            else:
                bound = math.sqrt(6 / sum(weight.shape))
                nn.init.uniform_(weight, -bound, bound, generator=generator)


def tanh(x, matmul_dtype):
    """Compute tanh(x), in float64 if the products are, else in the dtype of x.

    Parameters
    ----------
    x : torch.Tensor
        Of any shape.
    matmul_dtype : torch.dtype or None
        What the products around it are computed in.

    Returns
    -------
    torch.Tensor
        Of the shape and the dtype of x.
    """
    dtype = torch.promote_types(x.dtype, matmul_dtype or x.dtype)
    return torch.tanh(x.to(dtype)).to(x.dtype)


class MultVAERecommender(VAERecommender):
    """Recommend items with the variational autoencoder Mult-VAE, or with Mult-DAE.

    Mult-VAE [1]_ encodes a user's row of interactions as a Gaussian over a latent
    space, and decodes a point of it to a multinomial distribution over all items. It
    is what :class:`RecVAERecommender` was made from, and a baseline for it.

    1. Encoder and decoder have one hidden layer each, with tanh.
    2. The prior is the standard normal, with the KL divergence in closed form.
    3. The weight of the KL term is annealed: it grows linearly from 0 to `beta`.
    4. Encoder and decoder are trained together.

    Mult-DAE, of the same paper, is the denoising autoencoder without a posterior: it
    samples nothing and has no KL term.

    Rows are samples and users are rows: a user who was not seen in training needs no
    retraining, and cross-validation over rows measures exactly that. Matrices are
    sparse throughout.

    Read more in the :ref:`User Guide <baselines>`.

    Parameters
    ----------
    latent_dim : int, default=200
        Width of the latent space.
    hidden_dim : int, default=600
        Width of the hidden layer of the encoder, and of that of the decoder.
    variational : bool, default=True
        Whether this is Mult-VAE. Otherwise it is Mult-DAE.
    beta : float, default=0.2
        Weight of the KL term after annealing. No effect if ``variational=False``.
    n_annealing_steps : int, default=40_000
        Training steps in which the weight of the KL term grows to `beta`; 0 has it at
        `beta` from the first step. A step is one batch. No effect if
        ``variational=False``.
    noise_rate : float, default=0.5
        Probability in [0, 1) with which an interaction is dropped from what the
        encoder sees in training.
    max_iter : int, default=100
        Number of iterations, each of one pass over the users.
    max_seconds : float or None, default=None
        Seconds of a :meth:`fit` after which no other iteration begins; there is one in
        any case. None sets no limit.
    batch_size : int or "auto", default="auto"
        Users in a step. "auto" is the paper's 500 for 16,000 users or more and
        smaller where users are few, so that a pass has enough steps.
    learning_rate : float, default=1e-3
        Step size of Adam.
    ema_decay : float, default=0.0
        What is validated and kept is an exponential moving average of the weights
        after each iteration, of which this share in [0, 1) stays in the next one. 0
        keeps the weights of one iteration, as the paper does. No effect in
        :meth:`partial_fit`.
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
        Whether :meth:`fit` begins with the weights of the last fit. The weight of the
        KL term begins at 0 again.
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
        An entry an iteration: "likelihood" and "kl", the means over users in training,
        "validation_score" (NaN without validation), "seconds".
    module_ : torch.nn.Module
        The trained network.

    See Also
    --------
    RecVAERecommender : The same with a deeper encoder, a composite prior, a weight of
        the KL term for each user, and alternating training.

    Notes
    -----
    Initial weights (Xavier's uniform ones, biases from a truncated normal of standard
    deviation 0.001), the activations (Mult-DAE has tanh on the latent layer too) and
    the objective are those of the code that accompanies the paper. There the weight of
    the KL term grows by 1 / 200,000 in each step, so that it takes 40,000 steps to
    reach 0.2, the default here. On a small data set these are more steps than there
    are: tune `n_annealing_steps` together with `beta`.

    Three things are different. The authors' Mult-DAE has no hidden layers beside the
    latent one. It also has a small L2 penalty on all weights, which is left out here
    because the optimiser does not visit the items that a batch does not have. And
    `batch_size` is smaller than theirs by default where users are few.

    References
    ----------
    .. [1] D. Liang, R. G. Krishnan, M. D. Hoffman, T. Jebara (2018). Variational
       Autoencoders for Collaborative Filtering. WWW 2018.
       https://doi.org/10.1145/3178876.3186150

    Examples
    --------
    >>> from sklearn_recvae import MultVAERecommender
    >>> from sklearn_recvae.datasets import make_interactions
    >>> X, _, _ = make_interactions(200, 50, random_state=0)
    >>> model = MultVAERecommender(16, hidden_dim=32, max_iter=5, random_state=0)
    >>> model.fit(X[:150]).recommend(X[150:], k=3).shape
    (50, 3)
    """

    _parameter_constraints: dict = {  # noqa: RUF012 - as in scikit-learn
        **VAERecommender._parameter_constraints,
        "latent_dim": [POSITIVE_INT],
        "hidden_dim": [POSITIVE_INT],
        "variational": ["boolean"],
        "beta": [NON_NEGATIVE],
        "n_annealing_steps": [COUNT],
        "ema_decay": [Interval(Real, 0, 1, closed="left")],
    }

    def __init__(
        self,
        latent_dim=200,
        *,
        hidden_dim=600,
        variational=True,
        beta=0.2,
        n_annealing_steps=40_000,
        noise_rate=0.5,
        max_iter=100,
        max_seconds=None,
        batch_size="auto",
        learning_rate=1e-3,
        ema_decay=0.0,
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
        self.variational = variational
        self.beta = beta
        self.n_annealing_steps = n_annealing_steps
        self.noise_rate = noise_rate
        self.max_iter = max_iter
        self.max_seconds = max_seconds
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.ema_decay = ema_decay
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.warm_start = warm_start
        self.device = device
        self.precision = precision
        self.random_state = random_state
        self.verbose = verbose

    _network_class = MultVAE

    def _sizes(self):
        # A small integer of NumPy would wrap.
        return int(self.latent_dim), int(self.hidden_dim), bool(self.variational)

    def _build_objective(self, network):
        if not self.variational:
            return Objective(MultinomialLikelihood(), NoPrior(), AnnealedKL(0, 0))
        kl_weight = AnnealedKL(self.beta, self.n_annealing_steps)
        return Objective(MultinomialLikelihood(), StandardNormalPrior(), kl_weight)
