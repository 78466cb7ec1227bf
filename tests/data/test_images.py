"""Digits and photographs."""

import functools
import math

import pytest
import torch
from refusing import refuses
from replacing import replace
from seeded import gen

from kexue import data


def test_digits():
    digits = data.digits()
    assert digits.pixels.shape == (1797, 8, 8)
    assert digits.pixels.dtype == torch.float32
    assert (float(digits.pixels.min()), float(digits.pixels.max())) == (0, 1)
    assert digits.label.bincount().tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert digits.source.licence == "CC BY 4.0"


mnist = functools.cache(data.mnist)  # a second each time


@pytest.mark.slow
def test_the_parts_of_mnist_are_apart(monkeypatch):
    replace(data, "mnist", mnist, monkeypatch)
    digits = mnist()
    assert digits.pixels.shape == (5000, 28, 28)
    assert digits.pixels.dtype == torch.float32
    assert (float(digits.pixels.min()), float(digits.pixels.max())) == (0, 1)
    parts = data.mnist_parts()
    assert [len(part.pixels) for part in parts] == [4000, 500, 500]
    assert [part.label.bincount().tolist() for part in parts] == [[400] * 10, [50] * 10, [50] * 10]
    pixels = torch.cat([part.pixels for part in parts])
    assert len(pixels.unique(dim=0)) == len(digits.pixels.unique(dim=0))
    assert sum(len(part.pixels.unique(dim=0)) for part in parts) == len(pixels.unique(dim=0))
    # A one is a stroke, a zero a ring: the right label with the right picture, the right way up.
    zeros, ones = (parts[0].pixels[parts[0].label == d].mean(0) for d in (0, 1))
    assert zeros[14, 14] < 0.2 < 0.8 < ones[14, 14]
    assert zeros[14, 8] > ones[14, 8]
    large = torch.rand(60_000, 2, 2, generator=gen())
    label = torch.arange(60_000) % 10
    fake = [data.Images(large[:n], label[:n], data.SOURCES["mnist_full"]) for n in (60_000, 10)]
    replace(data, "mnist_full", lambda: fake, monkeypatch)
    train, valid, test = data.mnist_parts.__wrapped__(True)
    assert torch.equal(torch.cat([train.pixels, valid.pixels]), large)
    assert torch.equal(torch.cat([train.label, valid.label]), label)
    assert (len(valid.pixels), len(test.pixels)) == (10_000, 10)


def test_photographs_are_in_one_part_each_and_no_scene_is_in_two():
    found = data.photographs()
    parts = {
        part: {name for name, p in found.items() if p.part == part} for part in ("train", "valid", "test")
    }
    assert parts == {
        "train": {"astronaut", "china", "hubble", "motorcycle_left", "motorcycle_right", "retina", "rocket"},
        "valid": {"coffee"},
        "test": {"chelsea", "flower", "hopper"},
    }
    for photograph in found.values():
        assert photograph.pixels.shape[0] == 3
        assert min(photograph.pixels.shape[1:]) >= 300
        assert photograph.pixels.dtype == torch.float32
        assert 0 <= photograph.pixels.min() < 0.1
        assert 0.7 < photograph.pixels.max() <= 1
        assert photograph.credit
    # Colours in order: the flower is red, its leaves are green; rows before columns.
    assert found["flower"].pixels.shape == (3, 427, 640)
    red, green, blue = found["flower"].pixels[:, 200:260, 290:350].mean((1, 2))
    assert red > 2 * max(green, blue)


def test_smaller_photographs_keep_their_colours():
    flower = data.photographs()["flower"].pixels
    small = data.smaller(flower, 4)
    assert small.shape == (3, 107, 160)
    assert torch.equal(data.smaller(flower, 1), flower)
    torch.testing.assert_close(small.mean((1, 2)), flower.mean((1, 2)), atol=5e-3, rtol=0)
    # Antialiased: a checkerboard becomes grey.
    board = ((torch.arange(64)[:, None] + torch.arange(64)) % 2).float().expand(3, -1, -1)
    assert (data.smaller(board, 8) - 0.5).abs().max() < 0.05
    assert 0 <= small.min() <= small.max() <= 1


def test_tiles_are_the_middle_of_a_photograph():
    pixels = torch.arange(3 * 7 * 11).float().view(3, 7, 11) / 231
    found = data.tiles(pixels, 3)
    assert found.shape == (6, 3, 3, 3)
    assert torch.equal(found[0], pixels[:, 0:3, 1:4])
    assert torch.equal(found[4], pixels[:, 3:6, 4:7])
    parts = data.tiles(pixels, 2), data.tiles(data.smaller(pixels, 2), 2), data.centre_square(pixels, 2)[None]
    assert [len(part) for part in parts] == [3 * 5, 2 * 3, 1]
    assert torch.equal(data.views(pixels, 2), torch.cat(parts))
    assert torch.equal(data.centre_square(pixels, 7), pixels[:, :, 2:9])
    assert data.centre_square(pixels, 3).shape == (3, 3, 3)


P = torch.zeros(3, 8, 10)

test_bad_sizes_of_photographs_are_named = refuses([
    (lambda: data.smaller(P, 0.5), ValueError, "factor must be between 1 and the photograph's smaller side, got 0.5"),
    (lambda: data.smaller(P, math.nan), ValueError, "factor must be between 1 .* got nan"),
    (lambda: data.smaller(P, math.inf), ValueError, "factor must be between 1 .* got inf"),
    (lambda: data.tiles(P, 9), ValueError, "size must be between 1 and the photograph's smaller side, got 9"),
    (lambda: data.centre_square(P, 9), ValueError, "size must be between 1 and the photograph's smaller side, got 9"),
    (lambda: data.views(P, 5), ValueError, "size must be between 1 and half of the photograph's smaller side, got 5"),
])  # fmt: skip


def test_mnist_full_reads_the_files_of_kexue_data(small_mnist):
    _, arrays = small_mnist
    for images, (pixels, label) in zip(data.mnist_full(), arrays.values(), strict=True):
        torch.testing.assert_close(images.pixels, torch.tensor(pixels / 255, dtype=torch.float32))
        assert images.label.tolist() == label.tolist()
