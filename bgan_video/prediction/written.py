"""What an evaluation leaves on the disk beside its figures: the predictions, item by item."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from safetensors.torch import save
from torch import Tensor

from bgan_video.files import write_atomically
from bgan_video.prediction.predict import Prediction


def write_predictions(
    path: Path,
    predictions: Mapping[str, Prediction],
    labels: Tensor,
    level: str,
    know_fakes: Collection[str],
) -> None:
    """Write what every model says of some items (safetensors, float32).

    What several bodies say together is of whole videos: it has no probabilities of clips.

    Args:
        path: The file.
        predictions: By model.
        labels: `[V]`.
        level: What an item is: `video`, `image` or `point`.
        know_fakes: The models that learned what is fake.
    """
    tensors = {f"{level}_labels": labels}
    for model, p in predictions.items():
        if level == "video" and p.together is None:
            per_video = len(p.clip_probabilities) // len(labels)
            tensors["clip_labels"] = labels.repeat_interleave(per_video)
            tensors[f"{model}/clip_probs"] = p.clip_probabilities.float()
        tensors[f"{model}/{level}_probs"] = p.video_probabilities.float()
        if model in know_fakes:
            tensors[f"{model}/p_fake"] = p.p_fake.float()
        tensors[f"{model}/total_entropy"] = p.total_entropy.float()
        tensors[f"{model}/expected_entropy"] = p.expected_entropy.float()
        tensors[f"{model}/mutual_information"] = p.mutual_information.float()
    write_atomically(path, save(tensors))
