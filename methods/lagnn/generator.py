"""The generator: a conditional variational autoencoder of a neighbour's features, given the centre node's.

One pair for each directed edge: x = X[neighbour], c = X[centre] (paper, section 3.1).

    q(z | x, c) = N(mean, exp(log_var)), both linear in ReLU([x, c] W)
    p(x | z, c) = Bernoulli(sigmoid(MLP([z, c])))
    loss = (BCE(reconstruction, x) - 1/2 sum(1 + log_var - mean^2 - exp(log_var))) / pairs

A draw for all nodes takes z from N(0, I) and the node's own features as condition; rows are then divided by their sums.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Reconstruction(NamedTuple):
    """Of pairs (P, .): reconstructed features (P, F), and mean and log-variance of the code (P, Z)."""

    x: Tensor
    mean: Tensor
    log_var: Tensor


class CVAE(nn.Module):
    """`features` F, `hidden` width, `latent` Z. Features must lie in [0, 1], or the cross-entropy is none."""

    def __init__(self, features: int, hidden: int = 256, latent: int = 10) -> None:
        super().__init__()
        self.latent = latent
        self.encoder = nn.Linear(2 * features, hidden)
        self.mean, self.log_var = nn.Linear(hidden, latent), nn.Linear(hidden, latent)
        self.decoder_in, self.decoder_out = nn.Linear(latent + features, hidden), nn.Linear(hidden, features)

    def encode(self, x: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance (P, Z) of the codes of neighbours x (P, F) of nodes c (P, F)."""
        hidden = torch.relu(self.encoder(torch.cat([x, c], 1)))
        return self.mean(hidden), self.log_var(hidden)

    def decode(self, z: Tensor, c: Tensor) -> Tensor:
        """Features (n, F) in (0, 1) of codes (n, Z) and conditions (n, F)."""
        return torch.sigmoid(self.decoder_out(torch.relu(self.decoder_in(torch.cat([z, c], 1)))))

    def forward(self, x: Tensor, c: Tensor, noise: Tensor) -> Reconstruction:
        """Reconstruct x (P, F) from codes mean + noise std, `noise` (P, Z)."""
        mean, log_var = self.encode(x, c)
        return Reconstruction(self.decode(mean + noise * (0.5 * log_var).exp(), c), mean, log_var)


def cvae_loss(found: Reconstruction, x: Tensor) -> Tensor:
    """The loss above, of pairs (P, F)."""
    error = F.binary_cross_entropy(found.x, x, reduction="sum")
    divergence = -0.5 * (1 + found.log_var - found.mean**2 - found.log_var.exp()).sum()
    return (error + divergence) / len(x)


def normalise_rows(x: Tensor) -> Tensor:
    """Rows (n, F) over their sums; rows that sum to 0 become 0."""
    return x / _row_sums(x)


def _row_sums(x: Tensor) -> Tensor:
    """Sums (n, 1) of rows (n, F), infinity in place of 0."""
    total = x.sum(1, keepdim=True)
    return total.masked_fill_(total == 0, float("inf"))


class Sampler:
    """Draws of generated features for all nodes from a trained generator, without gradients.

    What the decoder makes of the conditions is computed once: only the codes change between draws.
    """

    @torch.no_grad()
    def __init__(self, generator: CVAE, x: Tensor) -> None:
        first, self._last = generator.decoder_in, generator.decoder_out
        self.latent, self._device = generator.latent, x.device
        self._code = first.weight[:, : self.latent]
        self._condition = x @ first.weight[:, self.latent :].T + first.bias

    @torch.no_grad()
    def draw(self) -> Tensor:
        """Row-normalised features (n, F); codes come from torch's global generator."""
        z = torch.randn(len(self._condition), self.latent, device=self._device, dtype=self._condition.dtype)
        return self.of(z)

    @torch.no_grad()
    def of(self, z: Tensor) -> Tensor:
        """Row-normalised features (n, F) of codes (n, Z)."""
        hidden = torch.relu(z @ self._code.T + self._condition)
        if hidden.device.type == "cpu":
            # Most of a draw's time. At this shape torch takes twice as long as numpy on an AMD EPYC.
            x = torch.from_numpy(hidden.numpy() @ self._last.weight.detach().numpy().T).add_(self._last.bias)
        else:
            x = self._last(hidden)
        return x.sigmoid_().div_(_row_sums(x))


def disagreement(logits: Tensor, y: Tensor) -> Tensor:
    """U of K passes' logits (K, n, classes) and labels (n,): NLL of the mean prediction minus the mean NLL, at most 0.

    The authors keep the generator with the largest U, the one on which a network with dropout disagrees least.
    """
    log_p = logits.log_softmax(2)
    together = log_p.logsumexp(0) - torch.tensor(len(logits), dtype=log_p.dtype).log()
    return F.nll_loss(together, y) - mean_cross_entropy(logits, y)


def mean_cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Mean of the K passes' cross-entropies; logits (K, n, classes)."""
    return F.cross_entropy(logits.flatten(0, 1), y.repeat(len(logits)))
