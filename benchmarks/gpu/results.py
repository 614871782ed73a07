"""The results file of `bench_gpu.py`, written after every line."""

import json
from pathlib import Path

from benchmarks.gpu import Values


class Results:
    """The results file.

    Args:
        path: The file; None keeps the results in memory. Where the file holds results of another machine or of
            other versions, `-other` is added to its name.
        machine: The machine and the versions.
    """

    def __init__(self, path: Path | None, machine: Values) -> None:
        self.path, self._machine = path, machine
        self._items: dict[str, Values] = {}
        while self.path and self.path.exists():
            stored = json.loads(self.path.read_text(encoding="utf-8"))
            if {**stored["machine"], **self._changing} == {**machine, **self._changing}:
                self._items = stored["items"]
                break
            # Results of another machine are kept.
            self.path = self.path.with_stem(f"{self.path.stem}-other")

    @property
    def _changing(self) -> Values:
        """Values of the machine that may differ between two calls."""
        return {name: self._machine.get(name) for name in ("date", "commit", "driver")}

    def lines(self, item: str) -> dict[str, Values]:
        """The lines of an item by name."""
        return self._items.get(item, {}).get("lines", {})

    def state(self, item: str) -> str:
        """`done`, `cut ...`, `failed ...`, or `not measured`."""
        return self._items.get(item, {}).get("state", "not measured")

    def undone(self, item: str) -> list[str]:
        """The lines of an item that were cut or failed."""
        return [name for name, values in self.lines(item).items() if "cut" in values or "failed" in values]

    def add(self, item: str, line: str, values: Values) -> None:
        """Add a line, replacing an earlier one of the same name, and publish the file."""
        lines = self.lines(item)
        lines.pop(line, None)
        # JSON has no NaN and no infinity: null.
        lines[line] = json.loads(json.dumps(values), parse_constant=lambda _: None)
        self._publish(item, {"lines": lines})

    def log(self, item: str) -> str:
        """The end of the standard error of an item's last process, where it was kept."""
        return self._items.get(item, {}).get("log", "")

    def end(self, item: str, state: str, seconds: float, log: str = "") -> None:
        """Record an item's state and seconds, and publish the file."""
        before = self._items.get(item, {}).get("seconds", 0.0)
        stored = {"log": log} if log else {}
        self._publish(item, {"state": state, "seconds": round(before + seconds, 1)} | stored)

    def _publish(self, item: str, values: Values) -> None:
        self._items[item] = {"state": "not measured", "lines": {}} | self._items.get(item, {}) | values
        if self.path:
            text = json.dumps({"machine": self._machine, "items": self._items}, indent=2)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            temporary = self.path.with_name(f".{self.path.name}.tmp")
            temporary.write_text(text + "\n", encoding="utf-8")
            temporary.replace(self.path)
