"""Crops of one photo are one piece of evidence for senses, too."""

from __future__ import annotations

import torch

from captum_neuroinspect.describe import DescribeOptions, describe_units, find_senses


def test_copies_of_photos_that_belong_together_make_senses_no_surer() -> None:
    # The words of two kinds are hardly better than a word for both: few photos cannot tell.
    options, names = DescribeOptions(top_share=0.4), ["grass", "sky", "both"]
    n_split = {}
    for n_copies in (1, 20):
        n_split[n_copies] = 0
        for seed in range(12):
            rng = torch.Generator().manual_seed(seed)
            kinds = torch.arange(60) % 5
            shown = torch.stack([kinds == 0, kinds == 1, kinds < 2], 1).float()
            scores = shown + 0.35 * torch.randn(60, 3, generator=rng)
            unit = (kinds < 2).float()[:, None] + 0.5 * torch.rand(60, 1, generator=rng)
            rows = torch.arange(60).repeat_interleave(n_copies)
            given = unit[rows], scores[rows], names
            found = describe_units(*given, together=rows, options=options)
            senses = find_senses(found, *given, together=rows, options=options)[0].senses
            n_split[n_copies] += bool(senses)
    assert n_split[20] <= n_split[1] + 1, n_split
