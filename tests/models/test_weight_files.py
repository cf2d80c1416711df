"""Files given as weights: what they are is told by what is in them."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import torch

from bgan_video.models import weights
from tests.models.building import refusal


def reason_against(file: Path, content: bytes) -> str:
    file.write_bytes(content)
    return refusal(lambda: weights.read(str(file), "w"))


TEXTS = ["Repository not found", "README", "usage", "Gone", "built", "apple", "1\n", "(x)", "}"]


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_in_place_of_weights_is_refused_in_a_line(tmp_path: Path, text: str) -> None:
    """What a download that failed leaves: torch stumbles over each at another place."""
    assert "file of weights" in reason_against(tmp_path / "w.pth", text.encode())


def test_files_that_do_not_read_say_why(tmp_path: Path) -> None:
    assert reason_against(tmp_path / "w.pt", b"").endswith("file of weights: EOFError")
    whole = safetensors.torch.save({"a": torch.zeros(3)})
    assert "SafetensorError" in reason_against(tmp_path / "w.safetensors", whole[:-4])


def test_safetensors_are_known_by_what_is_in_them(tmp_path: Path) -> None:
    whole = safetensors.torch.save({"a": torch.arange(3)})
    for name in ("w.safetensors", "w.bin"):
        (tmp_path / name).write_bytes(whole)
        assert weights.read(str(tmp_path / name), "w")["a"].tolist() == [0, 1, 2]
