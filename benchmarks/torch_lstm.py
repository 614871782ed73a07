"""`torch.nn.LSTM` in a bare training step on preloaded tensors, and alone: a worker of `bench_gpu.py`.

The step has the same layers, dropout, linear decoder, pinball loss, clipping and AdamW as the framework's, without
its scaling and its linear part. The job sets the precision: TF32, or float16 and bfloat16 through autocast without
loss scaling. Needs only Python's standard library and PyTorch.
"""

# pyright: reportMissingImports=false
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import torch
from torch import nn

from benchmarks.turns import Jobs


class Network(nn.Module):
    """Stacked LSTMs over the context, and one linear map of the last state."""

    def __init__(self, job: dict[str, Any]) -> None:
        super().__init__()
        units, (self.horizon, self.quantiles) = job["size"]["units"], (job["horizon"], len(job["quantiles"]))
        inputs = 2 * job["size"]["segment"]
        self.lstm = nn.LSTM(inputs, units[0], num_layers=len(units), batch_first=True, dropout=job["dropout"])
        self.decoder = nn.Linear(units[0], self.horizon * self.quantiles)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map features of steps, `[B, T, F]`, to quantiles, `[B, H, Q]`."""
        output, _ = self.lstm(features)
        return self.decoder(output[:, -1]).view(-1, self.horizon, self.quantiles)


def make_step(job: dict[str, Any], device: torch.device) -> Callable[[], torch.Tensor]:
    """Build a training step that returns its loss."""
    size = job["size"]
    half = {"float16": torch.float16, "bfloat16": torch.bfloat16}.get(job["precision"])
    network = Network(job).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    level = torch.tensor(job["quantiles"], device=device)
    steps = size["context"] // size["segment"]
    features = torch.randn(size["batch"], steps, 2 * size["segment"], device=device)
    target = torch.randn(size["batch"], job["horizon"], 1, device=device)

    def step() -> torch.Tensor:
        optimizer.zero_grad()
        with torch.autocast(device.type, half, enabled=half is not None):
            error = target - network(features)
        loss = 2 * torch.maximum(level * error, (level - 1) * error).mean()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), job["clip_norm"])
        optimizer.step()
        return loss

    return step


def make_kernel(job: dict[str, Any], device: torch.device) -> Callable[[], torch.Tensor]:
    """Build the forward and backward pass of the layers alone, over time-major steps."""
    size = job["size"]
    lstm = nn.LSTM(2, size["units"][0], num_layers=len(size["units"])).to(device)
    steps = torch.randn(size["context"], size["batch"], 2, device=device)

    def step() -> torch.Tensor:
        lstm.zero_grad()
        loss = lstm(steps)[0][-1].sum()
        loss.backward()
        return loss

    return step


def measure(step: Callable[[], torch.Tensor], steps: int, batch: int) -> dict[str, float]:
    """Windows per second of a number of steps."""
    step().item()
    begin = time.perf_counter()
    for _ in range(steps - 1):
        step()
    step().item()  # the last call returns before the GPU has finished
    return {"windows_per_second": round(steps * batch / (time.perf_counter() - begin), 1)}


def main() -> None:
    """Take turns; the step of the last job is reused where the next job has the same kind and size."""
    jobs, device = Jobs(), torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name, step = "", None
    while job := jobs.take():
        number = job.pop("steps")
        tf32 = job["precision"] == "tf32"
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
        if step is None or json.dumps(job) != name:
            step = None  # frees its memory
            step = (make_step if job["kind"] == "step" else make_kernel)(job, device)
            name = json.dumps(job)
        jobs.answer(measure(step, number, job["size"]["batch"]))


if __name__ == "__main__":
    main()
