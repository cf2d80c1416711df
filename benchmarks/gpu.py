"""What a GPU makes of a run, in one script of at most eight minutes; nothing is fetched.

    python -m benchmarks.gpu [--out FOLDER] [--seconds 480] [--toy]

The most important comes first and every finding is written as it is made, to `gpu.json` and
`gpu.md`, so that a run that is cut short still tells. A section that fails is recorded, and the
rest goes on. `--toy` rehearses all of it on a CPU at a size of seconds; its figures mean nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from benchmarks import gpu_steps
from bgan_video.data import motion_shapes
from bgan_video.files import write_atomically

SECONDS = 480.0
UNHURRIED_SECONDS = 150.0
PROCESSES = 5
TOY_RUN = ["train.steps=8", "posterior.burn_in=4", "posterior.thinning=2", "clip.test_clips=1"]

Row = dict[str, Any]


class Report:
    """Rows by section, written anew with every row.

    Args:
        folder: Where `gpu.json` and `gpu.md` go.
        seconds: After which no section is begun.
    """

    def __init__(self, folder: Path, seconds: float) -> None:
        self.folder = folder
        self._ends = time.monotonic() + seconds
        self.sections: dict[str, list[Row]] = {}
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def seconds_left(self) -> float:
        return self._ends - time.monotonic()

    def add(self, section: str, row: Row) -> None:
        self.sections.setdefault(section, []).append(row)
        print(f"[{self.seconds_left:5.0f} s left] {section}: {_line(row)}", flush=True)
        write_atomically(self.folder / "gpu.json", json.dumps(self.sections, indent=1) + "\n")
        write_atomically(self.folder / "gpu.md", self.markdown())

    def section(self, name: str, run: Callable[[], None]) -> None:
        """Run a section unless time is over; a failure becomes a row, and the rest goes on."""
        if self.seconds_left <= 0:
            self.add(name, {"left out": "no time"})
            return
        try:
            run()
        except Exception as error:  # whatever it is, the next section may still tell something
            last = traceback.extract_tb(error.__traceback__)[-1]
            at = f"{Path(last.filename).name}:{last.lineno}"
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            self.add(name, {"failed": reason, "at": at})

    def markdown(self) -> str:
        return "\n".join(_table(name, rows) for name, rows in self.sections.items())


def _line(row: Row) -> str:
    return ", ".join(f"{name} {_text(value)}" for name, value in row.items())


def _table(name: str, rows: list[Row]) -> str:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = [f"## {name}", "", f"| {' | '.join(columns)} |", "|" + " --- |" * len(columns)]
    lines += [f"| {' | '.join(_text(row.get(key, '')) for key in columns)} |" for row in rows]
    return "\n".join(lines) + "\n"


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "/")


def machine(report: Report, device: torch.device) -> None:
    cuda = device.type == "cuda"
    row = {
        "card": torch.cuda.get_device_name(device) if cuda else platform.processor() or "CPU",
        "memory GiB": torch.cuda.get_device_properties(device).total_memory / 2**30 if cuda else "",
        "torch": torch.__version__,
        "CUDA": torch.version.cuda or "",
        "cuDNN": torch.backends.cudnn.version() or "",
        "driver": _driver() if cuda else "",
        "CPU cores": os.cpu_count(),
    }
    report.add("machine", row)


def _driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def unhurried(report: Report, toy: bool) -> None:
    """What is not timed, all at once: the tests for a GPU, and whole runs in every precision."""
    began = time.monotonic()
    many = ["-n", str(PROCESSES)] if find_spec("xdist") else []
    tested = _start(
        report,
        "tests",
        *("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_gpu.py", *many),
        *(["--collect-only"] if toy else []),
    )
    motion_shapes.render(motion_shapes.default_root())
    words = [f"run.dir={report.folder}", *(TOY_RUN if toy else [])]
    trained = {
        form: _start(
            report, form, "train_video.py", f"run.name={form}", f"run.precision={form}", *words
        )
        for form in (["fp32"] if toy else ["fp32", "bf16", "fp16"])
    }
    for form, process in trained.items():
        output = _finish(report, process, form, began)
        if process.returncode:
            report.add("accuracy", {"precision": form, "failed": output[-1]})
        else:
            _accuracy(report, form)
    last = _finish(report, tested, "tests", began)[-1].strip("= ")
    report.add("tests", {"outcome": last, "seconds": time.monotonic() - began})


def _accuracy(report: Report, form: str) -> None:
    """Of the run in a precision, with where its time went."""
    run = report.folder / form
    lines: list[Row] = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    keys = ("gpu_seconds", "data_seconds", "seconds")
    time_went = {key: sum(line.get(key, 0.0) for line in lines) for key in keys}
    figures = json.loads((run / "metrics.json").read_text())
    for model in ("bayesian", "supervised"):
        of = figures["models"][model]["video"]
        row = {"precision": form, "model": model, "top-1": of["top1"], "NLL": of["nll"]}
        report.add("accuracy", row | time_went)


def _start(report: Report, name: str, *command: str) -> subprocess.Popen[str]:
    """A process of this Python; what it prints goes into a file."""
    with (report.folder / f"{name}.txt").open("w") as output:
        return subprocess.Popen(
            [sys.executable, *command],
            # Several processes share the cores.
            env=os.environ | {"BGAN_REQUIRE_GPU": "1", "OMP_NUM_THREADS": "2"},
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
        )


def _finish(report: Report, process: subprocess.Popen[str], name: str, began: float) -> list[str]:
    """The lines it printed, when it is over or time is."""
    stopped: list[str] = []
    left = min(report.seconds_left, began + UNHURRIED_SECONDS - time.monotonic())
    try:
        process.wait(max(1.0, left))
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        stopped = ["stopped: no time left"]
    return (report.folder / f"{name}.txt").read_text().splitlines() + stopped


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"))
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--toy", action="store_true", help="rehearse on a CPU")
    parser.add_argument("--only", default="", help="sections by name, separated by commas")
    options = parser.parse_args(arguments)
    report = Report(options.out, options.seconds)
    device = torch.device("cpu" if options.toy else "cuda")
    sections: dict[str, Callable[[], None]] = {
        "machine": lambda: machine(report, device),
        "agreement": lambda: gpu_steps.agreement(report, options.toy),
        "unhurried": lambda: unhurried(report, options.toy),
        "steps": lambda: gpu_steps.steps(report, options.toy),
    }
    for name in options.only.split(",") if options.only else sections:
        report.section(name, sections[name])
    print(report.markdown())


if __name__ == "__main__":
    main()
