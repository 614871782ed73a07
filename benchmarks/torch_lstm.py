"""`torch.nn.LSTM` in a bare training step on ready tensors, for `bench_gpu.py`, which starts it.

The same layers, dropout, linear decoder, pinball loss, clipping and AdamW as the other side, without its
scaling and its linear part. TF32 as the precision says; float16 and bfloat16 through autocast, without
scaling of the loss. Takes a job as JSON in its only argument; the last line it prints is the answer.
"""

# pyright: reportMissingImports=false
import json
import sys
import time
from typing import Any

import torch
from torch import nn


class Network(nn.Module):
    """Stacked LSTMs over the context, and one linear map of the last state."""

    def __init__(self, job: dict[str, Any]) -> None:
        super().__init__()
        units, (self.horizon, self.quantiles) = job["size"]["units"], (job["horizon"], len(job["quantiles"]))
        inputs = 2 * job["size"]["segment"]
        self.lstm = nn.LSTM(inputs, units[0], num_layers=len(units), batch_first=True, dropout=job["dropout"])
        self.decoder = nn.Linear(units[0], self.horizon * self.quantiles)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Features of steps, `[B, T, F]`, to quantiles, `[B, H, Q]`."""
        output, _ = self.lstm(features)
        return self.decoder(output[:, -1]).view(-1, self.horizon, self.quantiles)


def measure(job: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """Windows a second of a training step."""
    size, tf32 = job["size"], job["precision"] == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    half = {"float16": torch.float16, "bfloat16": torch.bfloat16}.get(job["precision"])
    network = Network(job).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    level = torch.tensor(job["quantiles"], device=device)
    steps = size["context"] // size["segment"]
    features = torch.randn(size["batch"], steps, 2 * size["segment"], device=device)
    target = torch.randn(size["batch"], job["horizon"], 1, device=device)

    def train(number: int) -> float:
        begin, loss = time.perf_counter(), None
        for _ in range(number):
            optimizer.zero_grad()
            with torch.autocast(device.type, half, enabled=half is not None):
                error = target - network(features)
            loss = 2 * torch.maximum(level * error, (level - 1) * error).mean()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), job["clip_norm"])
            optimizer.step()
        if loss is not None:
            loss.item()  # a GPU is still at work when the last call returns
        return time.perf_counter() - begin

    train(2)
    wanted = min(max(round(job["seconds"] * 3 / train(3)), 10), 3000)
    return {"windows_per_second": round(wanted * size["batch"] / train(wanted), 1), "torch": torch.__version__}


def main() -> None:
    """Do the job and print the answer."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        answer = measure(json.loads(sys.argv[1]), device)
    except torch.cuda.OutOfMemoryError:
        answer = {"failed": "out of memory"}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
