"""`python -m one_kernel cpu|cuda`: steps of the optimizer by the one kernel that torch makes, beside those without it.

In a process of its own: the tests check each call's annotations, which torch cannot make a kernel of.
"""

import sys

import torch

from diverseevol.engine.tuning.optimizer import advance, compiled, key


def main(device: str) -> None:
    """Compare steps whose sizes, rates and keys differ; a kernel made anew for one of them is an error."""
    one_kernel = compiled(device)
    assert one_kernel is not None
    torch.manual_seed(0)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for step, count in enumerate((1000, 77, 4096, 300_001), start=1):
            w, m, v, g = (tensor.clone() for tensor in (0.1 * torch.randn((4, count), device=device)).bfloat16())
            v.square_()
            results = []
            for take in (advance, one_kernel):
                kept = [tensor.clone() for tensor in (w, m, v)]
                take(*kept, g, (0.9, 0.999, 1e-8, 1.0, 1e-3 / step, 0.1 * step), 7 * step, key((0,), step, 3), True)
                results.append(torch.cat(kept).float())
            # Products and sums may be rounded together: very few numbers come out on the other side of their bits.
            assert (results[0] != results[1]).float().mean() < 1e-3
            torch.testing.assert_close(results[1], results[0], rtol=2**-7, atol=1e-6)


if __name__ == "__main__":
    main(sys.argv[1])
