"""The objective of variational autoencoders for top-N recommendation.

For a user with interactions x, n = sum_i x_i, and one sample z of the posterior
q(z | x) = N(mean, diag(exp(log_variance)))::

    objective(x) = sum_i x_i log pi_i(z) - weight(x) KL(q(z | x) || p(z))

Each of its three parts is an object with one method, and can be exchanged: the
likelihood, the prior, which gives the KL divergence, and the weight of the latter. In
RecVAE [1]_ these are the multinomial likelihood of equation 8 of the paper, the
composite prior, and weight(x) = gamma n.

References
----------
.. [1] I. Shenbin, A. Alekseev, E. Tutubalina, V. Malykh, S. I. Nikolenko (2020).
   RecVAE: a New Variational Autoencoder for Top-N Recommendations with Implicit
   Feedback. WSDM 2020. https://doi.org/10.1145/3336191.3371831
"""

import functools
import math
from typing import NamedTuple, Protocol

import torch
from torch.autograd.function import once_differentiable

from sklearn_recvae._kernels import mean_log_likelihood
from sklearn_recvae._training.distributed import OneProcess

LOG_2PI = math.log(2 * math.pi)

# Log-variance of the wide component of the composite prior.
WIDE_LOG_VARIANCE = 10.0


class Posterior(NamedTuple):
    """What the encoder gives for each user."""

    mean: torch.Tensor  # (n_rows, latent)
    log_variance: torch.Tensor | None  # (n_rows, latent); None means no variance

    def draw(self, generator):
        """Draw z = mean + noise sigma, with noise ~ N(0, 1).

        Parameters
        ----------
        generator : torch.Generator
            Source of the noise.

        Returns
        -------
        Draw
            One sample a row; the mean itself if there is no variance.
        """
        mean, log_variance = self
        if log_variance is None:
            return Draw(mean, None, mean, None)
        noise = mean.new_empty(mean.shape).normal_(generator=generator)
        return Draw(mean + noise * (0.5 * log_variance).exp(), noise, *self)


class Draw(NamedTuple):
    """A sample of each user's posterior."""

    z: torch.Tensor  # (n_rows, latent)
    noise: torch.Tensor | None  # (n_rows, latent), (z - mean) / sigma
    mean: torch.Tensor  # (n_rows, latent)
    log_variance: torch.Tensor | None  # (n_rows, latent)


class OutputLayer(NamedTuple):
    """The last layer of the decoder, which has a row for each item."""

    weight: torch.Tensor  # (n_items, width); detached where it is not trained
    bias: torch.Tensor  # (n_items,)
    keys: tuple  # both in the dtype of the large products


class Objective(NamedTuple):
    """What training maximises: the mean over users of the bound above."""

    likelihood: object  # such as MultinomialLikelihood
    prior: object  # such as CompositePrior
    kl_weight: object  # such as RescaledKL

    def loss(self, draw, old, features, output, batch, n_steps, generator):
        """Compute the negative objective, and the means of its two terms.

        Parameters
        ----------
        draw : Draw
            Of the posterior of the users in the batch.
        old : Posterior or None
            Their posterior at the last refresh; None if the prior does not use it.
        features : torch.Tensor of shape (n_rows, width)
            What the decoder makes of z before its last layer.
        output : OutputLayer
            This layer.
        batch : Batch
            The users' interactions.
        n_steps : int
            Number of steps that the encoder has taken.
        generator : torch.Generator
            For a likelihood that draws.

        Returns
        -------
        loss, likelihood, kl : torch.Tensor of shape ()
            Means over the users; the divergence is not weighted.
        """
        likelihood = self.likelihood.mean(features, output, batch, generator)
        kl = self.prior.kl(draw, old)  # (n_rows,)
        weights = self.kl_weight.weights(batch.totals, n_steps)  # (n_rows,)
        return (weights * kl).mean() - likelihood, likelihood, kl.mean()


class MultinomialLikelihood:
    """The multinomial likelihood, by an exact softmax over all items.

    Parameters
    ----------
    communicator : Communicator, default=OneProcess()
        Joins the items of several processes.
    """

    def __init__(self, communicator=OneProcess()):  # noqa: B008 - it has no state
        self.communicator = communicator

    def mean(self, features, output, batch, generator):
        """Compute the mean over users of sum_i x_i log softmax(W f + b)_i.

        Parameters
        ----------
        features : torch.Tensor of shape (n_rows, width)
            f, what the last layer gets.
        output : OutputLayer
            W and b.
        batch : Batch
            The rows x, without noise.
        generator : torch.Generator
            Not used: nothing is drawn.

        Returns
        -------
        torch.Tensor of shape ()
            The mean.
        """
        return mean_log_likelihood(
            features,
            output.weight,
            output.bias,
            batch,
            keys=output.keys,
            communicator=self.communicator,
        )


class Prior(Protocol):
    """What a prior has to have. Its own weights, if any, belong to the network."""

    # Whether `kl` needs the users' posterior at the last refresh.
    uses_old_posterior: bool

    def kl(self, draw, old):
        """Give the KL divergence of each user, (n_rows,), or an estimate of it.

        Parameters
        ----------
        draw : Draw
            Of the posterior.
        old : Posterior or None
            The same users' posterior at the last refresh; constants to autograd.
        """


class StandardNormalPrior:
    """N(0, 1) in each latent dimension, with the divergence in closed form."""

    uses_old_posterior = False

    def kl(self, draw, old):
        """Compute the divergence of N(mean, sigma^2) from N(0, 1).

        Parameters
        ----------
        draw : Draw
            Its mean and log-variance are used.
        old : None
            Not used.

        Returns
        -------
        torch.Tensor of shape (n_rows,)
            Sums over the latent dimensions.
        """
        variance = draw.log_variance.exp()
        return 0.5 * (variance + draw.mean**2 - 1 - draw.log_variance).sum(1)


class SampledPrior:
    """Base of priors whose divergence is estimated by the one sample of z."""

    uses_old_posterior = False

    def log_density(self, z, old):
        """Give log p(z), (n_rows,), with the gradients that are wanted of it.

        Parameters
        ----------
        z : torch.Tensor of shape (n_rows, latent)
            Latent samples.
        old : Posterior or None
            As in `Prior`.
        """
        raise NotImplementedError

    def kl(self, draw, old):
        """Estimate the divergence, at the z that the decoder sees too.

        Parameters
        ----------
        draw : Draw
            Of the posterior.
        old : Posterior or None
            As in `Prior`.

        Returns
        -------
        torch.Tensor of shape (n_rows,)
            log q(z | x) - log p(z).
        """
        # All that log q(z | x) needs of z is the noise.
        log_posterior = -0.5 * (LOG_2PI + draw.log_variance + draw.noise**2).sum(1)
        return log_posterior - self.log_density(draw.z, old)


class CompositePrior(SampledPrior):
    """RecVAE's mixture of three normals, taken in each latent dimension.

    Parameters
    ----------
    weights : sequence of 3 floats
        Of the standard normal, the old posterior and the wide normal. A component
        of weight zero is left out.
    """

    uses_old_posterior = True

    def __init__(self, weights):
        self.weights = weights

    def log_density(self, z, old):
        """Compute the log-density of the mixture.

        Parameters
        ----------
        z : torch.Tensor of shape (n_rows, latent)
            Latent samples.
        old : Posterior
            The second component.

        Returns
        -------
        torch.Tensor of shape (n_rows,)
            Sum over the dimensions of the log of the mixture.
        """
        return _LogCompositePrior.apply(z, *old, self.weights)


class _LogCompositePrior(torch.autograd.Function):
    # By hand, because autograd would take three times as long over it: the gradient
    # of log sum_k w_k N_k is the mean of the components' pulls (m_k - z) / var_k, each
    # weighted by its share of the density.

    @staticmethod
    def forward(ctx, z, old_mean, old_log_variance, weights):
        shift = z - old_mean  # (n_rows, latent), as all that follow
        components = [  # z - m, (z - m) / var, log var
            (z, z, 0.0),
            (shift, shift * (-old_log_variance).exp(), old_log_variance),
            (z, z * math.exp(-WIDE_LOG_VARIANCE), WIDE_LOG_VARIANCE),
        ]
        kept = [(w, *c) for w, c in zip(weights, components, strict=True) if w > 0]
        terms = [
            (distance * pull)
            .add_(log_variance)
            .mul_(-0.5)
            .add_(math.log(weight) - 0.5 * LOG_2PI)
            for weight, distance, pull, log_variance in kept
        ]
        top = functools.reduce(torch.maximum, terms)
        shares = [(term - top).exp_() for term in terms]
        total = functools.reduce(torch.add, shares)
        pulls = [pull for _, _, pull, _ in kept]
        gradient = sum(share * pull for share, pull in zip(shares, pulls, strict=True))
        ctx.save_for_backward(gradient.div_(total).neg_())
        return (top + total.log()).sum(1)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        (gradient,) = ctx.saved_tensors
        return gradient * grad[:, None], None, None, None


class RescaledKL:
    """RecVAE's weight of the KL term: gamma n for a user with feedback n.

    Parameters
    ----------
    gamma : float
        Weight for each unit of feedback; 0 means no KL term.
    """

    def __init__(self, gamma):
        self.gamma = gamma

    def weights(self, totals, n_steps):
        """Give the weight of each user's term.

        Parameters
        ----------
        totals : torch.Tensor of shape (n_rows,)
            n, the sum of each user's interactions.
        n_steps : int
            Not used.

        Returns
        -------
        torch.Tensor of shape (n_rows,)
            The weights.
        """
        return self.gamma * totals


class ConstantKL:
    """The same weight of the KL term for all users.

    Parameters
    ----------
    beta : float
        The weight.
    """

    def __init__(self, beta):
        self.beta = beta

    def weights(self, totals, n_steps):
        """Give the weight of each user's term.

        Parameters
        ----------
        totals : torch.Tensor of shape (n_rows,)
            Their number counts, not their values.
        n_steps : int
            Not used.

        Returns
        -------
        torch.Tensor of shape (n_rows,)
            The weights.
        """
        return torch.full_like(totals, self.beta)
