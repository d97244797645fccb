"""What it would cost to hold every CPU to the same instruction set.

command  python -m benchmarks.instruction_sets
prints   images/s of training steps of `simple`, as the libraries choose and held to AVX2, in turn, and whether the
         trained bytes are the same

torch picks its kernels by the CPU: ATen, oneDNN and MKL each by instruction set, MKL also by vendor. Fixing the first
three is possible through the environment; this prints what that costs on the machine it runs on.
"""

from __future__ import annotations

import hashlib
import os
import statistics
import subprocess
import sys
import time

HELD = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_CBWR": "AVX2"}
PAIRS, STEPS, WARM_UP, BATCH, SIZE = 5, 20, 3, 8, (256, 320)


def measure() -> None:
    """Train a few steps and print images/s and a hash of the weights."""
    import torch

    from detector.engine.seeding import make_deterministic
    from detector.engine.structures import Targets
    from detector.models import simple
    from detector.models.normalization import PixelStatistics
    from detector.models.postprocess import Postprocess
    from detector.models.state_head import States

    make_deterministic(0, 2)
    model = simple.build(3, States(), PixelStatistics((120,) * 3, (60,) * 3), Postprocess(), "none")
    model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    images = torch.randint(0, 256, (BATCH, 3, *SIZE), dtype=torch.uint8)
    boxes = torch.rand(BATCH, 6, 4) * 150
    boxes[..., 2:] = boxes[..., :2] + 50
    targets = Targets(boxes, torch.randint(1, 4, (BATCH, 6)), torch.zeros(BATCH, 6, dtype=torch.int64))
    for step in range(STEPS + WARM_UP):
        if step == WARM_UP:
            began = time.perf_counter()
        optimizer.zero_grad()
        torch.stack(list(model(images, targets).losses.values())).sum().backward()
        optimizer.step()
    speed = STEPS * BATCH / (time.perf_counter() - began)
    content = b"".join(tensor.numpy().tobytes() for tensor in model.state_dict().values())
    print(f"{speed:.1f} {hashlib.sha256(content).hexdigest()[:16]}")


def run(environment: dict[str, str]) -> tuple[float, str]:
    """Images/s and the weights' hash of a fresh process."""
    code = "import sys; sys.path[:0] = ['stages', '.']; from benchmarks.instruction_sets import measure; measure()"
    result = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, check=True, capture_output=True, text=True
    )
    speed, weights = result.stdout.split()
    return float(speed), weights


def main() -> None:
    pairs = [(run({}), run(HELD)) for _ in range(PAIRS)]
    chosen, held = ([pair[side] for pair in pairs] for side in (0, 1))
    slowdown = statistics.median(free[0] / bound[0] for free, bound in pairs)
    print(f"as the libraries choose  {statistics.median(speed for speed, _ in chosen):6.1f} images/s")
    print(f"held to AVX2             {statistics.median(speed for speed, _ in held):6.1f} images/s")
    print(f"cost                     {slowdown - 1:6.0%}  (median of {PAIRS} pairs)")
    print(f"weights repeat: {len({w for _, w in chosen}) == 1} and {len({w for _, w in held}) == 1}; ", end="")
    print(f"the same in both: {chosen[0][1] == held[0][1]}")


if __name__ == "__main__":
    main()
