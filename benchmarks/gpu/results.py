"""The results file of `bench_gpu.py`, written after every line."""

import json
import sys
from pathlib import Path

from benchmarks.gpu import Values


class Results:
    """The results file.

    Args:
        path: Where it lies; None keeps it in memory.
        machine: What it is measured on.
    """

    def __init__(self, path: Path | None, machine: Values) -> None:
        self._path = path
        self._items: dict[str, Values] = {}
        if path and path.exists():
            stored = json.loads(path.read_text(encoding="utf-8"))
            changing = {name: machine[name] for name in ("date", "commit")}
            if stored["machine"] | changing != machine:
                sys.exit(f"{path}: is of another machine or other versions; give another --out, or delete it")
            self._items = stored["items"]
        self._machine = machine

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
        """Add a line, in place of an earlier one of its name, and publish the file."""
        lines = self.lines(item)
        lines.pop(line, None)
        lines[line] = values
        self._publish(item, {"lines": lines})

    def end(self, item: str, state: str, seconds: float) -> None:
        """Say how far an item came, and publish the file."""
        before = self._items.get(item, {}).get("seconds", 0.0)
        self._publish(item, {"state": state, "seconds": round(before + seconds, 1)})

    def _publish(self, item: str, values: Values) -> None:
        self._items[item] = {"state": "not measured", "lines": {}} | self._items.get(item, {}) | values
        if self._path:
            text = json.dumps({"machine": self._machine, "items": self._items}, indent=2)
            self._path.parent.mkdir(parents=True, exist_ok=True)
            temporary = self._path.with_name(f".{self._path.name}.tmp")
            temporary.write_text(text + "\n", encoding="utf-8")
            temporary.replace(self._path)
