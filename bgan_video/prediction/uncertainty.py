"""What `metrics.json` says beside its figures: can the probabilities be trusted, and when not."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor

from bgan_video.data.manifest import Manifest, Split
from bgan_video.metrics import calibration, ranking
from bgan_video.metrics.scores import judge, scores
from bgan_video.prediction.predict import Prediction

FAMILIAR = 0.95
"""The part of the validation videos whose total entropy is familiar: one in twenty known ones is
called unfamiliar."""
Predictions = Mapping[Split, Mapping[str, Prediction]]


def figures(
    predictions: Predictions,
    labels: Mapping[Split, Tensor],
    manifest: Manifest,
    level: str,
    answering: str,
    know_fakes: Collection[str],
) -> dict[str, Any]:
    """Calibration on test, raw and scaled on validation; what is unfamiliar; the open set.

    Args:
        predictions: By split (`test`, `validation`, `open`) and model.
        labels: By split; none where it is empty.
        manifest: Names the classes that were held out.
        level: What an item is: `video`, `image` or `point`.
        answering: The model whose entropy says what is unfamiliar.
        know_fakes: The models that learned what is fake.

    Returns:
        `calibration`; with validation `unfamiliar`; with an open set `open_set`.
    """
    calibrated: dict[str, Any] = {}
    has_validation = len(labels["validation"]) > 0
    for model, p in predictions["test"].items():
        temperature = None
        if has_validation:
            held = predictions["validation"][model].video_probabilities
            temperature = calibration.fit_temperature(held, labels["validation"])
        of_test = _calibration(p.video_probabilities, labels["test"], temperature)
        calibrated[model] = {level: of_test}
    trust: dict[str, Any] = {"calibration": calibrated}
    if has_validation:
        known = predictions["validation"][answering].total_entropy
        trust["unfamiliar"] = {"total_entropy": known.quantile(FAMILIAR).item()}
    if len(labels["open"]):
        trust["open_set"] = _open_set(predictions, manifest, know_fakes) | {
            "count": len(labels["open"])
        }
        if has_validation:
            limit = trust["unfamiliar"]["total_entropy"]
            trust["open_set"]["flagged"] = {
                part: (predictions[part][answering].total_entropy > limit).double().mean().item()
                for part in ("open", "test")
            }
    return trust


def _calibration(
    probabilities: Tensor, labels: Tensor, temperature: float | None
) -> dict[str, Any]:
    """What `scores` leaves out, and the scores after temperature scaling.

    Args:
        probabilities: `[V, K]`.
        labels: `[V]`.
        temperature: Fitted on other videos; None where there were none.
    """
    judged = judge(probabilities, labels)
    scaled = None
    if temperature is not None:
        p = calibration.scale(probabilities, temperature)
        of_scaled = scores(p, labels)
        scaled = {key: of_scaled[key] for key in ("nll", "ece", "brier")}
        again = judge(p, labels)
        scaled["ece_equal_mass"] = calibration.equal_mass_ece(again.confidence, again.right)
        scaled["aurc"] = ranking.aurc(again.confidence, again.right)
    return {
        "ece_equal_mass": calibration.equal_mass_ece(judged.confidence, judged.right),
        "aurc": ranking.aurc(judged.confidence, judged.right),
        "temperature": temperature,
        "scaled": scaled,
    }


def _open_set(
    predictions: Predictions, manifest: Manifest, know_fakes: Collection[str]
) -> dict[str, Any]:
    """How well each model's measures tell videos of unknown classes from the test videos."""

    def measures(model: str, p: Prediction) -> dict[str, Tensor]:
        fake = {"p_fake": p.p_fake} if model in know_fakes else {}
        return fake | {
            "mutual_information": p.mutual_information,
            "total_entropy": p.total_entropy,
            "max_probability": -p.video_probabilities.max(dim=1).values,
        }

    auroc: dict[str, dict[str, float]] = {}
    for model, p in predictions["open"].items():
        known = measures(model, predictions["test"][model])
        auroc[model] = {
            name: ranking.auroc(unknown, known[name])
            for name, unknown in measures(model, p).items()
        }
    return {"classes": list(manifest.open_classes), "auroc": auroc}
