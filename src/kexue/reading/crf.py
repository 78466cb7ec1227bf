"""A linear chain over tags, the conditional random field."""

import torch
from jaxtyping import Bool, Float, Int, Integer
from torch import Tensor, nn

from kexue.nn import checks


class LinearChainCRF(nn.Module):
    """A linear-chain CRF: p(y|x) = exp(Σ emission[t, y_t] + Σ transition[y_t, y_t₊₁]) / Z(x).

    Tags that depend on each other: not an independent model, whatever its decoding (reading.crf).

    Args:
        num_tags: how many tags there are.

    Raises TypeError for a number that is no int, ValueError for one below 1.
    """

    def __init__(self, num_tags: int) -> None:
        super().__init__()
        checks.count("num_tags", num_tags, 1)
        self.transition = nn.Parameter(torch.zeros(num_tags, num_tags))

    def forward(
        self,
        emissions: Float[Tensor, "batch time tags"],
        tags: Integer[Tensor, "batch time"],
        mask: Bool[Tensor, "batch time"],
    ) -> Float[Tensor, " batch"]:
        """log p(tags | emissions) of each sequence.

        Args:
            emissions: a score for each tag at each place.
            tags: whatever stands in the padding does not count.
            mask: True where real, at the beginning of each row, which has at least one.

        Raises:
            TypeError: emissions are not floating-point, or tags no integers.
            ValueError: shapes that do not fit, tags out of range, or a mask of another form.
        """
        mask = self._check(emissions, mask)
        checks.integers("tags", tags)
        if tags.shape != mask.shape:
            raise ValueError(f"tags must have shape {tuple(mask.shape)}, got {tuple(tags.shape)}")
        tags = tags.long().masked_fill(~mask, 0)  # first: the number of tags may not fit into a narrow dtype
        if bool(((tags < 0) | (tags >= emissions.shape[2])).any()):
            low, high = int(tags.min()), int(tags.max())
            raise ValueError(f"tags must lie within 0 … {emissions.shape[2] - 1}, got {low} … {high}")
        at = emissions.gather(-1, tags[..., None]).squeeze(-1).masked_fill(~mask, 0.0).sum(1)
        steps = self.transition[tags[:, :-1], tags[:, 1:]].masked_fill(~mask[:, 1:], 0.0).sum(1)
        return at + steps - self.log_partition(emissions, mask)

    def log_partition(
        self, emissions: Float[Tensor, "batch time tags"], mask: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, " batch"]:
        """log Z(x), a sum over all sequences of tags, by the forward recursion."""
        mask = self._check(emissions, mask)
        alpha = emissions[:, 0]
        for t in range(1, emissions.shape[1]):
            new = (alpha[:, :, None] + self.transition).logsumexp(1) + emissions[:, t]
            alpha = torch.where(mask[:, t, None], new, alpha)
        return alpha.logsumexp(1)

    def decode(
        self, emissions: Float[Tensor, "batch time tags"], mask: Bool[Tensor, "batch time"]
    ) -> Int[Tensor, "batch time"]:
        """The most likely tags of each sequence (Viterbi), 0 in the padding."""
        mask = self._check(emissions, mask)
        score, back = emissions[:, 0], []
        for t in range(1, emissions.shape[1]):
            best, source = (score[:, :, None] + self.transition).max(1)
            stay = torch.arange(emissions.shape[2], device=emissions.device).expand_as(source)
            score = torch.where(mask[:, t, None], best + emissions[:, t], score)
            back.append(torch.where(mask[:, t, None], source, stay))
        tags = [score.argmax(1)]
        for source in reversed(back):
            tags.append(source.gather(1, tags[-1][:, None]).squeeze(1))
        return torch.stack(tags[::-1], 1).masked_fill(~mask, 0)

    def _check(self, emissions: Tensor, mask: Tensor) -> Tensor:
        checks.floating("emissions", emissions)
        checks.tensor("mask", mask)
        tags = len(self.transition)
        if emissions.ndim != 3 or emissions.shape[2] != tags or not emissions.shape[1]:
            raise ValueError(f"emissions must have shape (B, T, {tags}), T ≥ 1, got {tuple(emissions.shape)}")
        if mask.shape != emissions.shape[:2] or mask.dtype != torch.bool:
            raise ValueError(
                f"mask must be boolean of shape {tuple(emissions.shape[:2])}, "
                f"got {mask.dtype} of shape {tuple(mask.shape)}"
            )
        if not mask[:, 0].all() or bool((mask[:, 1:] & ~mask[:, :-1]).any()):
            raise ValueError("mask must be True at the beginning of each row, got a row where it is not")
        return mask
