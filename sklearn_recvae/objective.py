"""The objective of RecVAE [1]_ as pure functions of tensors.

For a user with interactions x, n = sum_i x_i, and one sample z of the posterior
q(z | x) = N(mean, diag(exp(log_variance)))::

    objective(x) = sum_i x_i log pi_i(z) - weight(x) (log q(z | x) - log p(z | x))

where p is the composite prior and weight(x) = gamma n. The likelihood, with pi of
equation 8 of the paper, is `sklearn_recvae.kernels.mean_log_likelihood`.

References
----------
.. [1] I. Shenbin, A. Alekseev, E. Tutubalina, V. Malykh, S. I. Nikolenko (2020).
   RecVAE: a New Variational Autoencoder for Top-N Recommendations with Implicit
   Feedback. WSDM 2020. https://doi.org/10.1145/3336191.3371831
"""

import math

import torch

# Log-variance of the wide component of the composite prior.
WIDE_LOG_VARIANCE = 10.0


def log_normal(z, mean, log_variance):
    """Log-density of a normal distribution, element by element.

    Parameters
    ----------
    z, mean, log_variance : torch.Tensor or float
        Broadcast against each other.

    Returns
    -------
    torch.Tensor
        log N(z; mean, exp(log_variance)).
    """
    if not isinstance(log_variance, torch.Tensor):
        log_variance = torch.as_tensor(log_variance, dtype=z.dtype, device=z.device)
    return -0.5 * (
        math.log(2 * math.pi) + log_variance + (z - mean) ** 2 / log_variance.exp()
    )


def log_composite_prior(z, old_mean, old_log_variance, weights):
    """Log-density of the composite prior, a mixture in each latent dimension.

    Parameters
    ----------
    z : torch.Tensor of shape (n_rows, latent)
        Latent samples.
    old_mean, old_log_variance : torch.Tensor of shape (n_rows, latent)
        The same users' posterior at the last refresh.
    weights : sequence of 3 floats
        Of the standard normal, the old posterior and the wide normal. A component
        of weight zero is left out.

    Returns
    -------
    torch.Tensor of shape (n_rows,)
        Sum over the dimensions of the log of the mixture.
    """
    parameters = [(0.0, 0.0), (old_mean, old_log_variance), (0.0, WIDE_LOG_VARIANCE)]
    terms = [
        math.log(weight) + log_normal(z, mean, log_variance)
        for weight, (mean, log_variance) in zip(weights, parameters, strict=True)
        if weight > 0
    ]
    return torch.stack(terms).logsumexp(0).sum(1)


def kl_divergence(z, mean, log_variance, log_prior):
    """One-sample estimate of KL(q || p), at the z that the decoder sees too.

    Parameters
    ----------
    z, mean, log_variance : torch.Tensor of shape (n_rows, latent)
        The sample and the posterior it was drawn from.
    log_prior : torch.Tensor of shape (n_rows,)
        log p(z).

    Returns
    -------
    torch.Tensor of shape (n_rows,)
        log q(z | x) - log p(z).
    """
    return log_normal(z, mean, log_variance).sum(1) - log_prior


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
    torch.Tensor of shape (n_rows, latent)
        One sample a row.
    """
    noise = torch.empty_like(mean).normal_(generator=generator)
    return mean + noise * (0.5 * log_variance).exp()
