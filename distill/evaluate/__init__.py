"""Evaluation of a synthetic set: the accuracy, on images never trained on, of fresh networks trained on the set.

    Judge(context).score(synthetic, lr, context.data.test, 5, "test")

The protocols are settings (`recipe.Evaluation`): mtt (Cazenavette et al. 2022), podd (RaT-BPTT, Feng et al. 2024; PoDD,
Shul et al. 2024) and steps-1000 (the generative thesis). All of them use float32 unless evaluation.bf16 is set.
"""

from distill.evaluate.budget import real_set
from distill.evaluate.judge import SIDE_BY_SIDE_FLOPS, Judge
from distill.evaluate.score import Score

__all__ = ["SIDE_BY_SIDE_FLOPS", "Judge", "Score", "real_set"]
