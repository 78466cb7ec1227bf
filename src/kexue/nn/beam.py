"""The beam: which continuations are kept, and which path each of them continues."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from kexue.nn.sequences import PAD

__all__ = [
    "Beam",
]


class Beam:
    """The best paths of several searches, step by step; no length normalisation.

    What was written is a tree: at step t path i wrote `tokens[…, i, t]` behind what path `parents[…, i, t]`
    had written before. A path that has ended, or for which there was no continuation, writes `pad`. `advance`
    says which rows of whatever a model keeps for each path (key–value caches, for example) are those of the
    new paths.

    Args:
        searches: the axes in front of the paths: (questions,), or (sources, directions).
        beam_size: paths of each search.
        device: of all tensors.
        pad: the id that a finished path writes.
    """

    def __init__(
        self, searches: tuple[int, ...], beam_size: int, device: torch.device, pad: int = PAD
    ) -> None:
        shape = (*searches, beam_size)
        self.pad = pad
        self.score: Float[Tensor, "*searches beam"] = torch.full(shape, -torch.inf, device=device)
        self.score[..., 0] = 0.0  # the other paths are not there yet
        self.finished: Bool[Tensor, "*searches beam"] = torch.zeros(shape, dtype=torch.bool, device=device)
        """Which paths have ended, or are not there, and so get no further token."""
        self.tokens: Int[Tensor, "*searches beam steps"] = torch.empty(
            *shape, 0, dtype=torch.int64, device=device
        )
        self.parents: Int[Tensor, "*searches beam steps"] = self.tokens

    def advance(
        self, log_probs: Float[Tensor, "*searches beam ids"], end: Int[Tensor, "..."] | int
    ) -> Int[Tensor, " paths"]:
        """Keep the best continuations of each search; a path that has ended has one, itself.

        Args:
            log_probs: of every id behind every path; what stands at `pad` does not count.
            end: the id that ends a path, the same for all, or one that broadcasts to the shape of `score`.

        Returns:
            For each new path, of all searches one after the other, the row of the path that it continues.
        """
        total = self.score[..., None] + log_probs.masked_fill(self.finished[..., None], -torch.inf)
        total[..., self.pad] = torch.where(self.finished, self.score, -torch.inf)
        *searches, beam_size, ids = total.shape
        self.score, chosen = total.flatten(-2).topk(beam_size)
        there = self.score > -torch.inf
        parent, token = chosen // ids, (chosen % ids).masked_fill(~there, self.pad)
        self.parents = torch.cat((self.parents, parent[..., None]), -1)
        self.tokens = torch.cat((self.tokens, token[..., None]), -1)
        self.finished = self.finished.gather(-1, parent) | (token == end) | ~there
        first = torch.arange(0, parent.numel(), beam_size, device=parent.device).view(*searches, 1)
        return (first + parent).flatten()

    def lineage(self) -> Int[Tensor, "*searches beam steps"]:
        """Which path each of the paths was after every step: its branch of the tree."""
        row = torch.arange(self.score.shape[-1], device=self.score.device).expand_as(self.score)
        rows: list[Tensor] = []
        for parent in reversed(self.parents.unbind(-1)):
            rows.insert(0, row)
            row = parent.gather(-1, row)
        return torch.stack(rows, -1) if rows else self.parents

    def written(self) -> Int[Tensor, "*searches beam steps"]:
        """What each path has written, `pad` behind its end."""
        return self.tokens.gather(-2, self.lineage())

    def keep(self, searches: Bool[Tensor, " first"]) -> None:
        """Only those searches, along the first axis."""
        self.score, self.finished = self.score[searches], self.finished[searches]
        self.tokens, self.parents = self.tokens[searches], self.parents[searches]
