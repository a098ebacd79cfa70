"""An ideal denoiser that knows some pictures by heart: what it should say is known."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dataunlearn.process import ForwardProcess, expand_to


class ByHeart(nn.Module):
    """Knows some pictures: the mean of z given m, of Gaussians about them and a wide one."""

    def __init__(self, process: ForwardProcess, known: Tensor) -> None:
        super().__init__()
        self.process, self.known = process, known
        self.anchor = nn.Parameter(torch.zeros(()))

    def forward(self, noisy: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
        gamma, sigma = self.process.gamma(t), self.process.sigma(t)
        variance = gamma.square() + sigma.square()
        wide = expand_to(gamma / variance, noisy) * noisy
        guess = wide
        if len(self.known):
            apart = (noisy[:, None] - expand_to(gamma, noisy)[:, None] * self.known).flatten(2)
            narrow = -apart.square().sum(2) / (2 * sigma.square()[:, None])
            dims = noisy[0].numel()
            broad = -noisy.flatten(1).square().sum(1) / (2 * variance)
            broad = broad + dims / 2 * (sigma.square() / variance).log()
            logits = torch.cat([narrow, broad[:, None]], 1)  # (B, K + 1)
            weights = logits.softmax(1).to(noisy)
            known = torch.einsum("bk,kchw->bchw", weights[:, :-1], self.known)
            guess = known + expand_to(weights[:, -1], noisy) * wide
        return self.process.target(noisy, guess, t)
