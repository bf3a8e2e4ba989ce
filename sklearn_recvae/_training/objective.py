"""The objective of RecVAE [1]_ as pure functions of tensors.

For a user with interactions x, n = sum_i x_i, and one sample z of the posterior
q(z | x) = N(mean, diag(exp(log_variance)))::

    objective(x) = sum_i x_i log pi_i(z) - weight(x) (log q(z | x) - log p(z | x))

where p is the composite prior and weight(x) = gamma n. The likelihood, with pi of
equation 8 of the paper, is `sklearn_recvae._kernels.mean_log_likelihood`.

References
----------
.. [1] I. Shenbin, A. Alekseev, E. Tutubalina, V. Malykh, S. I. Nikolenko (2020).
   RecVAE: a New Variational Autoencoder for Top-N Recommendations with Implicit
   Feedback. WSDM 2020. https://doi.org/10.1145/3336191.3371831
"""

import functools
import math

import torch
from torch.autograd.function import once_differentiable

LOG_2PI = math.log(2 * math.pi)

# Log-variance of the wide component of the composite prior.
WIDE_LOG_VARIANCE = 10.0


def log_composite_prior(z, old_mean, old_log_variance, weights):
    """Log-density of the composite prior, a mixture in each latent dimension.

    Parameters
    ----------
    z : torch.Tensor of shape (n_rows, latent)
        Latent samples.
    old_mean, old_log_variance : torch.Tensor of shape (n_rows, latent)
        The same users' posterior at the last refresh; constants to autograd.
    weights : sequence of 3 floats
        Of the standard normal, the old posterior and the wide normal. A component
        of weight zero is left out.

    Returns
    -------
    torch.Tensor of shape (n_rows,)
        Sum over the dimensions of the log of the mixture.
    """
    return _LogCompositePrior.apply(z, old_mean, old_log_variance, weights)


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


def kl_divergence(noise, log_variance, log_prior):
    """One-sample estimate of KL(q || p), at the z that the decoder sees too.

    Parameters
    ----------
    noise : torch.Tensor of shape (n_rows, latent)
        (z - mean) / sigma, as drawn by `sample`: all that log q(z | x) needs of z.
    log_variance : torch.Tensor of shape (n_rows, latent)
        Of the posterior that z was drawn from.
    log_prior : torch.Tensor of shape (n_rows,)
        log p(z).

    Returns
    -------
    torch.Tensor of shape (n_rows,)
        log q(z | x) - log p(z).
    """
    log_posterior = -0.5 * (LOG_2PI + log_variance + noise**2).sum(1)
    return log_posterior - log_prior


def kl_weight(totals, gamma, beta):
    """Weight of each user's KL term: gamma n, or the same beta for all.

    Parameters
    ----------
    totals : torch.Tensor of shape (n_rows,)
        n, the sum of each user's interactions.
    gamma : float or None
        Rescaling by the amount of feedback; 0 means no KL term.
    beta : float or None
        Used if gamma is None.

    Returns
    -------
    torch.Tensor of shape (n_rows,)
        The weights.
    """
    if gamma is None:
        return torch.full_like(totals, beta)
    return gamma * totals


def sample(mean, log_variance, generator):
    """Draw z = mean + eps sigma with eps ~ N(0, 1).

    Parameters
    ----------
    mean, log_variance : torch.Tensor of shape (n_rows, latent)
        The posterior.
    generator : torch.Generator
        Source of eps.

    Returns
    -------
    z : torch.Tensor of shape (n_rows, latent)
        One sample a row.
    noise : torch.Tensor of shape (n_rows, latent)
        eps.
    """
    noise = mean.new_empty(mean.shape).normal_(generator=generator)
    return mean + noise * (0.5 * log_variance).exp(), noise
