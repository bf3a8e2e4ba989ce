"""Try what RecVAE's authors tried without success: other priors, weights, and sides.

Section 4.6 of the paper names ideas that did not help. The authors' versions of them
are not at hand; what they are taken to be is said here, and may differ:

- In place of the composite prior: a mixture of Gaussians, the VampPrior of Tomczak and
  Welling (2018), whose components are the encoder's posteriors at learned inputs, and a
  RealNVP flow (Dinh et al., 2017). Their weights are trained together with the encoder.
- The terms of the KL divergence, each with a weight of its own. They are those of Chen
  et al. (2018): mutual information of users and codes, total correlation, and the
  divergence in each dimension, estimated from the users of the batch.
- The autoencoder on the side of the items: its rows are items, and its columns users.

Each variant has the same settings and seeds as RecVAE itself; what else it has, such as
the sizes of the priors, is not tuned. Its best iteration is
chosen by validation, and the test users are evaluated once. A finished run is a file in
``--results`` and is not computed again. The table goes to ``--output`` as JSON.

    python examples/studies/negative_results.py --data ml-1m.zip
"""

import argparse
import json
import math
from pathlib import Path

import numpy as np
import torch
from _runs import (
    N_RANKS,
    add_data_arguments,
    evaluate,
    fingerprint,
    get_versions,
    load_and_split,
    load_or_compute,
    mean_over_seeds,
    paired_difference,
    provenance,
    stack_all_users,
)
from torch import nn

from sklearn_recvae import RecVAERecommender
from sklearn_recvae._training.objective import LOG_2PI, SampledPrior
from sklearn_recvae.metrics import ndcg_at_k, rank_scores

METRIC = "NDCG@100"
REFERENCE = "composite prior"
# Sizes of the priors.
N_COMPONENTS = 10  # of the mixture
N_PSEUDO_INPUTS = 50  # of the VampPrior
N_COUPLINGS = 4  # of RealNVP
# Users, each row's own included, that stand for all in an estimate of the KL terms.
N_NEIGHBOURS = 16


def log_normals(z, mean, log_variance):
    """Compute the log-density of each z under each of K Gaussians, (n_rows, K).

    By products of matrices, as (z - m)^2 / v is z^2 / v - 2 z m / v + m^2 / v.
    """
    precision = (-log_variance).exp()  # (K, latent)
    squares = z**2 @ precision.T - 2 * z @ (mean * precision).T  # (n_rows, K)
    constants = (mean**2 * precision + log_variance + LOG_2PI).sum(1)  # (K,)
    return -0.5 * (squares + constants)


class MixturePrior(SampledPrior, nn.Module):
    """A mixture of Gaussians, with weights, means and variances that are learned.

    A component is a Gaussian over the whole latent space, with a variance for each
    dimension. (The composite prior is a mixture in each dimension by itself.)
    """

    def __init__(self, latent_dim, n_components):
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(n_components))
        self.mean = nn.Parameter(torch.randn(n_components, latent_dim))
        self.log_variance = nn.Parameter(torch.zeros(n_components, latent_dim))

    def log_density(self, z, old=None):
        """Compute log p(z) of each row."""
        components = log_normals(z, self.mean, self.log_variance)  # (n_rows, K)
        return (components + self.logits.log_softmax(0)).logsumexp(1)


class VampPrior(SampledPrior):
    """The mean of the encoder's posteriors at inputs that are learned.

    What is learned of an input is what the first layer makes of it, before the bias:
    with fewer hidden units than items this is only another parametrisation.
    """

    def __init__(self, encoder, sums):
        self.encoder = encoder
        self.sums = sums  # (n_inputs, hidden)

    def log_density(self, z, old=None):
        """Compute log p(z) of each row."""
        components = log_normals(z, *self.encoder(None, sums=self.sums))  # (n_rows, K)
        return components.logsumexp(1) - math.log(len(self.sums))


class RealNVPPrior(SampledPrior, nn.Module):
    """A flow of affine couplings between z and a standard normal.

    A coupling scales and shifts one half of z by what a small network makes of the
    other half; then the halves change roles. At first it changes nothing.
    """

    def __init__(self, latent_dim, n_couplings):
        super().__init__()
        sizes = latent_dim // 2, latent_dim - latent_dim // 2
        self.couplings = nn.ModuleList()
        for number in range(n_couplings):
            n_kept, n_moved = sizes if number % 2 == 0 else sizes[::-1]
            last = nn.Linear(latent_dim, 2 * n_moved)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
            self.couplings.append(
                nn.Sequential(nn.Linear(n_kept, latent_dim), nn.SiLU(), last)
            )

    def to_normal(self, z):
        """Map z to the standard normal; give the Jacobian's log-determinant too."""
        n_kept = z.shape[1] // 2
        kept, moved = z[:, :n_kept], z[:, n_kept:]
        log_determinant = z.new_zeros(len(z))
        for coupling in self.couplings:
            log_scale, shift = coupling(kept).chunk(2, dim=1)
            log_scale = log_scale.tanh()  # bounded, for stable training
            kept, moved = moved * log_scale.exp() + shift, kept
            log_determinant = log_determinant + log_scale.sum(1)
        return torch.cat([kept, moved], 1), log_determinant

    def log_density(self, z, old=None):
        """Compute log p(z) of each row."""
        normal, log_determinant = self.to_normal(z)
        return log_determinant - 0.5 * (normal**2 + LOG_2PI).sum(1)


class KLTerms:
    """The KL divergence of another prior, with a weight for each of its three terms.

    With q(z) the mean posterior of all users, log q(z | x) - log p(z) is the sum of::

        log q(z | x) - log q(z)               mutual information of users and codes
        log q(z) - sum_d log q(z_d)           total correlation
        sum_d log q(z_d) - log p(z)           divergence in each dimension

    q(z) and q(z_d) are estimated from users of the batch, the row's own included, as in
    minibatch weighted sampling. (The number of all users would add constants, which
    have no gradient.) With the composite prior p(z) depends on the user, but the terms
    add up all the same, and with weights of 1 this is RecVAE.
    """

    def __init__(self, prior, weights):
        self.prior = prior
        self.weights = weights
        self.uses_old_posterior = prior.uses_old_posterior

    def kl(self, draw, old):
        """Estimate the weighted sum of the terms for each row."""
        information, correlation = self.first_terms(draw)
        rest = self.prior.kl(draw, old) - information - correlation
        terms = torch.stack([information, correlation, rest], 1)  # (n_rows, 3)
        return terms @ terms.new_tensor(self.weights)

    def first_terms(self, draw):
        """Estimate mutual information and total correlation, (n_rows,) each."""
        shifts = range(min(N_NEIGHBOURS, len(draw.z)))  # the first is the row itself
        mean, log_variance = (
            torch.stack([part.roll(shift, 0) for shift in shifts])
            for part in (draw.mean, draw.log_variance)
        )  # (n_neighbours, n_rows, latent)
        squares = (draw.z - mean) ** 2 * (-log_variance).exp()
        log_densities = -0.5 * (squares + log_variance + LOG_2PI)
        log_n = math.log(len(shifts))
        own = log_densities[0].sum(1)  # (n_rows,)
        joint = log_densities.sum(2).logsumexp(0) - log_n
        marginals = (log_densities.logsumexp(0) - log_n).sum(1)
        return own - joint, joint - marginals


class LearnedPriorRecommender(RecVAERecommender):
    """RecVAE with a prior that has weights, which are trained with the encoder.

    A child adds them to the network. Such a model is for studies: a file of it cannot
    be loaded, as the network's sizes do not tell of these weights.
    """

    def _build_network(self, n_items, sizes, seed):
        network = super()._build_network(n_items, sizes, seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._add_weights(network)
        return network

    def _add_weights(self, network):
        raise NotImplementedError

    def _build_prior(self, network):
        return network.prior


class MixtureRecommender(LearnedPriorRecommender):
    """RecVAE with a mixture of Gaussians for a prior."""

    def _add_weights(self, network):
        network.prior = MixturePrior(network.latent_dim, N_COMPONENTS)


class RealNVPRecommender(LearnedPriorRecommender):
    """RecVAE with a flow for a prior."""

    def _add_weights(self, network):
        network.prior = RealNVPPrior(network.latent_dim, N_COUPLINGS)


class VampPriorRecommender(LearnedPriorRecommender):
    """RecVAE with the VampPrior."""

    def _add_weights(self, network):
        # As large as the sums of users' rows at first, of length 1: weights of the
        # first layer are uniform up to 1 / sqrt(n_items).
        sums = torch.randn(N_PSEUDO_INPUTS, len(network.encoder.input.bias))
        network.pseudo_sums = nn.Parameter(sums / math.sqrt(3 * network.n_items))

    def _build_prior(self, network):
        return VampPrior(network.encoder, network.pseudo_sums)


class KLTermsRecommender(RecVAERecommender):
    """RecVAE with weights for the terms of its KL divergence."""

    term_weights = 1, 1, 1

    def _build_prior(self, network):
        return KLTerms(super()._build_prior(network), self.term_weights)


class MoreInformationCost(KLTermsRecommender):
    """RecVAE that pays twice for mutual information."""

    term_weights = 2, 1, 1


class MoreCorrelationCost(KLTermsRecommender):
    """RecVAE that pays twice for total correlation."""

    term_weights = 1, 2, 1


class MoreDimensionCost(KLTermsRecommender):
    """RecVAE that pays twice for the divergence in each dimension."""

    term_weights = 1, 1, 2


VARIANTS = {
    REFERENCE: RecVAERecommender,
    "mixture of Gaussians": MixtureRecommender,
    "VampPrior": VampPriorRecommender,
    "RealNVP": RealNVPRecommender,
    "mutual information twice": MoreInformationCost,
    "total correlation twice": MoreCorrelationCost,
    "each dimension twice": MoreDimensionCost,
    "rows are items": RecVAERecommender,
}


def main():
    args = parse_args()
    args.results.mkdir(parents=True, exist_ok=True)
    split = load_and_split(args.data, args.n_heldout)
    runs = {name: [] for name in args.variants}
    for seed in args.seeds:  # a whole table, however early this is stopped
        for name in args.variants:
            runs[name].append(run_variant(args, name, seed, split))
    summary = {
        "settings": settings_of(args),
        "seeds": args.seeds,
        "data": fingerprint(split),
        "versions": get_versions(),
        "variants": summarize(runs),
    }
    summary = {"made": provenance(), **summary}
    args.output.write_text(json.dumps(summary, indent=1) + "\n")
    print("\n".join(to_markdown(summary)))


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_data_arguments(parser)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS)
    )
    parser.add_argument("--max-iter", type=int, default=50)
    parser.add_argument("--latent-dim", type=int, default=200)
    parser.add_argument("--hidden-dim", type=int, default=600)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument(
        "--quick", action="store_true", help="a tiny network and one seed, as a trial"
    )
    parser.add_argument(
        "--results", type=Path, default=Path("results"), help="folder of finished runs"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("negative_results.json"), help="the table"
    )
    args = parser.parse_args()
    if args.quick:
        args.seeds = args.seeds[:1]
        args.max_iter, args.latent_dim, args.hidden_dim = 2, 8, 16
    return args


def settings_of(args):
    """Give the parameters that all variants have."""
    names = ["max_iter", "latent_dim", "hidden_dim", "learning_rate"]
    return {name: getattr(args, name) for name in names}


def run_variant(args, name, seed, split):
    """Fit a variant, keep its best iteration by validation, and test it once."""
    model = VARIANTS[name](**settings_of(args), random_state=seed)
    on_items = name == "rows are items"
    settings = {"variant": name, **model.get_params(), "data": fingerprint(split)}
    settings["prior"] = [N_COMPONENTS, N_PSEUDO_INPUTS, N_COUPLINGS, N_NEIGHBOURS]

    def compute():
        scores, ranks = (fit_on_items if on_items else fit_on_users)(model, split)
        best = int(np.argmax(scores))
        return {
            "best_iteration": best + 1,
            "validation": scores[best],
            "history": scores,
            "test": evaluate(split.y_test, ranks),
        }

    file_name = f"negative-{name.replace(' ', '-')}-{seed}"
    return load_or_compute(args.results, file_name, settings, compute)


def fit_on_users(model, split):
    """Give the validation score of each iteration, and the best one's test ranks."""
    model.fit(split.X_train, X_val=split.X_val, y_val=split.y_val)
    scores = model.history_["validation_score"].tolist()
    return scores, model.recommend(split.X_test, k=N_RANKS)


def fit_on_items(model, split):
    """Do the same with a row for each item, of the users who interacted with it.

    The model gives p(user | item); n p(user | item) is what it expects of a user and an
    item with n interactions, and so a user's items are ranked by it. A user without a
    column cannot be asked for: those of validation and test are in the training
    matrix, with what may be seen of them. (RecVAE on rows of users has not seen them.)
    """
    rows, starts = stack_all_users(split)
    X = rows.T.tocsr()  # (n_items, n_users)
    n_interactions = X.sum(axis=1)  # (n_items, 1)

    def rank(probabilities, part):
        seen = split[part]
        users = slice(starts[part], starts[part] + seen.shape[0])
        expected = np.asarray(n_interactions) * probabilities[:, users]
        return rank_scores(expected.T, seen, N_RANKS)

    scores, best_ranks = [], None
    for _ in range(model.max_iter):
        probabilities = model.partial_fit(X).predict(X)  # (n_items, n_users)
        score = ndcg_at_k(split.y_val, rank(probabilities, "X_val"), N_RANKS)
        if not scores or score > max(scores):
            best_ranks = rank(probabilities, "X_test")
        scores.append(float(score))
    return scores, best_ranks


def summarize(runs):
    """Average over users and seeds, and compare with the composite prior by user."""
    rows = {}
    for name, of_seeds in runs.items():
        values = mean_over_seeds(of_seeds, METRIC)
        row = {
            "test": round(float(values.mean()), 4),
            "test_of_seeds": [round(np.mean(r["test"][METRIC]), 4) for r in of_seeds],
            "validation": round(np.mean([r["validation"] for r in of_seeds]), 4),
            "best_iterations": [run["best_iteration"] for run in of_seeds],
        }
        if name != REFERENCE and REFERENCE in runs:
            reference = runs[REFERENCE]
            paired = paired_difference(values, mean_over_seeds(reference, METRIC))
            row["difference"], row["half"] = (round(float(each), 4) for each in paired)
            row["difference_of_seeds"] = [
                round(np.mean(np.subtract(r["test"][METRIC], other["test"][METRIC])), 4)
                for r, other in zip(of_seeds, reference, strict=True)
            ]
        rows[name] = row
    return rows


def to_markdown(summary):
    """Give the lines of the table: below 0 the variant is worse than RecVAE."""
    lines = [
        f"| | {METRIC} | difference | in each seed | validation | kept |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in summary["variants"].items():
        difference = in_each = ""
        if "difference" in row:
            difference = f"{row['difference']:+.4f} ± {row['half']:.4f}"
            in_each = " ".join(f"{each:+.4f}" for each in row["difference_of_seeds"])
        kept = " ".join(map(str, row["best_iterations"]))
        test, validation = (shorten(row[users]) for users in ("test", "validation"))
        cells = [name, test, difference, in_each, validation, kept]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def shorten(value):
    return f"{value:.4f}".removeprefix("0")


if __name__ == "__main__":
    main()
