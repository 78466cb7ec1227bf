"""The beam beside a list of paths that are written out and sorted."""

import math

import pytest
import torch
from seeded import randn

from kexue.nn.beam import Beam


@pytest.mark.parametrize("beam_size", [1, 3, 30])
def test_the_best_paths_and_the_tree_that_they_form(beam_size):
    ends = torch.tensor([[3], [1]])
    beam = Beam((2, 2), beam_size, torch.device("cpu"))
    paths = {(i, j): [((), 0.0)] for i in range(2) for j in range(2)}
    kept = torch.arange(4 * beam_size)  # what a model would keep for each path: here, a number
    for step in range(4):
        log_probs = (2 * randn(2, 2, beam_size, 5, seed=step)).log_softmax(-1)
        before, known = beam.written(), {}
        rows = beam.advance(log_probs, ends)
        kept = kept[rows]
        for (i, j), several in paths.items():
            end = int(ends[j])
            for row, path in enumerate(before[i, j].tolist()):
                known.setdefault((i, j, tuple(w for w in path if w)), log_probs[i, j, row].tolist())
            longer = []
            for path, score in several:
                if end in path:
                    longer.append((path, score))
                else:
                    log_p = known[i, j, path]
                    longer += [((*path, w), score + log_p[w]) for w in range(1, 5)]
            paths[i, j] = sorted(longer, key=lambda one: -one[1])[:beam_size]
            there = [row for row in range(beam_size) if beam.score[i, j, row] > -math.inf]
            found = [tuple(w for w in beam.written()[i, j, row].tolist() if w) for row in there]
            assert found == [path for path, _ in paths[i, j]]
            assert beam.score[i, j, there].tolist() == pytest.approx([score for _, score in paths[i, j]])
            assert beam.finished[i, j, there].tolist() == [end in path for path in found]
            assert not beam.tokens[i, j, len(there) :, step].any()
        parent = rows.view(2, 2, beam_size) - torch.arange(0, 4 * beam_size, beam_size).view(2, 2, 1)
        assert torch.equal(parent, beam.parents[..., step])
    before = beam.written()[1:]
    beam.keep(torch.tensor([False, True]))
    assert torch.equal(beam.written(), before)
