"""A trained run, opened from its folder: evaluate it, predict with it, ask what to label next."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from bgan_video import ranks
from bgan_video.acquisition import suggestions
from bgan_video.acquisition.suggestions import Suggestion
from bgan_video.backend import resolve_backend
from bgan_video.config import FEATURES, GANS, ON_FEATURES, Config, model_of
from bgan_video.data.cutting import ItemFrames
from bgan_video.data.frames import Frames
from bgan_video.data.manifest import Item, Manifest
from bgan_video.data.parallel import silent, unsaid
from bgan_video.errors import UserError
from bgan_video.features import FrozenBodies
from bgan_video.method.bodies import names
from bgan_video.method.rounds import answering_rounds, has_pool
from bgan_video.method.timetable import rival_size
from bgan_video.prediction import asking, judging, on_features
from bgan_video.prediction.adjusting import adjusted
from bgan_video.prediction.answering import OF_ROUNDS, read_rounds
from bgan_video.prediction.bodies import (
    FIRST_KIND,
    Body,
    empty_network,
    kinds,
    open_bodies,
    open_features,
    predict_models,
    weighed,
)
from bgan_video.prediction.judging import BAYESIAN, FINISHED
from bgan_video.prediction.predict import (
    Networks,
    Prediction,
    Renormalised,
    Stored,
    WithDropout,
    kept,
)
from bgan_video.prediction.together import read_weights
from bgan_video.prediction.video_files import (
    Judge,
    Unreadable,
    VideoPrediction,
    expand,
    predict_files,
)
from bgan_video.sampling import SampleBank


class TrainedRun:
    """A finished run.

    Args:
        folder: The run's folder.
        overrides: `key=value` for what `adjusting.ADJUSTABLE` names.

    Raises:
        UserError: Not a run, not finished, or a setting that belongs to the training.
    """

    def __init__(self, folder: Path, overrides: Sequence[str] = ()) -> None:
        self.folder = folder
        self.config = adjusted(folder, overrides)
        self.backend = resolve_backend(self.config.run, self.config.spatial_dims)
        self._frozen = FrozenBodies(self.backend)
        manifest = folder / "manifest.json"
        if not manifest.is_file():
            raise UserError(f"{folder} is not a run folder: it holds no manifest.json")
        self.manifest = Manifest.from_json(manifest.read_text(encoding="utf-8"))
        t = self.config.train
        self.bank = SampleBank(
            folder / "posterior",
            self.config.posterior.max_samples,
            t.steps if t.rounds else None,
        )
        if not (folder / FINISHED).is_file():
            raise UserError(
                f"{folder} is not finished; finish it with bgan-video train --resume {folder}"
            )

    @property
    def classes(self) -> tuple[str, ...]:
        """Names in label order."""
        return self.manifest.classes

    @property
    def final_split(self) -> Literal["test", "validation"]:
        """What the run is judged on: `train.final_split`; validation where there is no test."""
        return self.manifest.judged_on(self.config.train.final_split)

    @property
    def recall(self) -> dict[str, dict[str, float | None]]:
        """Each model's recall by class in the last final evaluation, as `metrics.json` has it."""
        return self._metrics["recall"]

    @property
    def body_figures(self) -> dict[str, Any]:
        """Those of each of several bodies in the last final evaluation, by its name."""
        return self._metrics.get("bodies", {})

    @property
    def _metrics(self) -> dict[str, Any]:
        return json.loads((self.folder / "metrics.json").read_text(encoding="utf-8"))

    def networks(self, model: str, batches: Sequence[Tensor] = ()) -> Networks:
        """The stored networks of one of `models` but the posterior, whose are those of a body.

        MC-dropout answers as often as the posterior has networks.

        Args:
            model: Its name.
            batches: Clips from which every network's normalisation statistics are taken anew;
                without any the stored ones are used.
        """
        if model in ON_FEATURES:
            rounds, device = self.answering_rounds(model), self.backend.device
            given = (self.bank, model, self.manifest.num_classes, rounds, device)
            return on_features.stored(*given)
        config = self.config.for_networks_of(model)
        module = empty_discriminator(config, self.manifest).to(self.backend.device)
        stored: Networks = Stored(self.bank, kind_of(model), module, self.answering_rounds(model))
        if batches:
            stored = Renormalised(stored, batches, self.backend)
        if model != "mc_dropout":
            return stored
        passes = rival_size(self.config)
        return WithDropout(stored, passes, self.backend, config.run.seed, "mc_dropout")

    @property
    def models(self) -> list[str]:
        """The models this run has: the posterior first, the rest as `baseline.methods` says."""
        methods = self.config.baseline.methods
        named = [model_of(method) for method in methods]
        named.sort(key=lambda model: model != BAYESIAN)
        return [model for model in named if self.bank.records(kind_of(model))]

    @property
    def know_fakes(self) -> frozenset[str]:
        """The models that learned what is fake; of others p(fake) means nothing."""
        if self.config.objective.adversarial_weight == 0:
            return frozenset()
        return frozenset(map(model_of, GANS)) & {*self.models}

    @property
    def answering(self) -> str:
        """The model that predicts and suggests: the first of `models`.

        Raises:
            UserError: The run's networks were removed, as a study does with those of its cells.
        """
        if not self.models:
            raise UserError(
                f"{self.folder} holds no networks any more; run its study again with "
                f"--keep-weights, or train anew with --config {self.folder / 'config.yaml'}"
            )
        return self.models[0]

    def predict_items(
        self, items: Sequence[Item], frames: Frames, batches: Sequence[Tensor] = ()
    ) -> tuple[dict[str, Prediction], dict[str, Prediction]]:
        """What models say of surveyed items, of which every rank asks about its share.

        Args:
            items: Surveyed.
            frames: Theirs.
            batches: As in `networks`.

        Returns:
            The prediction of every model, the one that answers first, and that of each body of the
            posterior, by its name.
        """
        seen = {m: self.networks(m, batches) for m in self.models if m != BAYESIAN}
        rivals = {m: networks for m, networks in seen.items() if m not in ON_FEATURES}
        posteriors = {}
        if BAYESIAN in self.models:
            posteriors[BAYESIAN] = lambda body: self.of_body(body, batches)

        bodies = self.bodies(frames, items)
        given = (frames, self.config, rivals, posteriors, bodies, self.backend)
        predictions, parts = predict_models(items, *given)
        if of_features := seen.keys() - rivals.keys():
            body = self._features_body(items)
            asked = {m: seen[m] for m in self.models if m in of_features}
            predictions |= body.ask(asked, items, self.backend)
        return {m: predictions[m] for m in self.models}, parts.get(BAYESIAN, {})

    def bodies(self, frames: ItemFrames, items: Sequence[Item] = ()) -> Sequence[Body]:
        """The bodies of the posterior, ready for some surveyed items.

        Those of features read what training stored, and compute what is not there any more.
        """
        if BAYESIAN not in self.models:
            return ()
        given = (self.config, self.manifest, frames, self._frozen, self.folder)
        bodies = open_bodies(*given, unsaid, silent, items)
        return weighed(bodies, read_weights(self.folder))

    def _features_body(self, items: Sequence[Item] = ()) -> Body:
        """What the methods on frozen features see, ready for some surveyed items."""
        given = (self.config, self.manifest, self._frozen, self.folder)
        return open_features(*given, unsaid, silent, items)

    def answering_bodies(self, frames: ItemFrames, items: Sequence[Item] = ()) -> Sequence[Body]:
        """The bodies of the model that answers, ready for some surveyed items.

        Those of the posterior, or the one that a method on frozen features sees; none of other
        rivals, whose networks see clips.
        """
        if self.answering in ON_FEATURES:
            return (self._features_body(items),)
        return self.bodies(frames, items) if self.answering == BAYESIAN else ()

    @property
    def answering_names(self) -> tuple[str, ...]:
        """The names of the bodies that answer, as `discriminator.bodies` would have them."""
        if self.answering in ON_FEATURES:
            return (FEATURES + self.config.features.body,)
        if self.answering == BAYESIAN:
            return names(self.config)
        return (self.config.discriminator.name,)

    def answering_networks(self, body: Body) -> Networks:
        """The stored networks of one of `answering_bodies`."""
        of_posterior = self.answering == BAYESIAN
        return self.of_body(body) if of_posterior else self.networks(self.answering)

    def of_body(self, body: Body, batches: Sequence[Tensor] = ()) -> Networks:
        """The stored networks of one of `bodies`.

        Args:
            body: Which.
            batches: As in `networks`, of a body that sees clips.
        """
        module = body.network().to(self.backend.device)
        stored = Stored(self.bank, body.kind, module, self.answering_rounds(BAYESIAN))
        if batches and not body.sees_features:
            return Renormalised(stored, batches, self.backend)
        return stored

    def evaluate(
        self, split: Literal["test", "validation"] | None = None, renormalise: bool = False
    ) -> dict[str, Any]:
        """Evaluate every model on a split; the run's own writes `metrics.json` and predictions.

        With the test split go the validation videos, on which a temperature is fitted, and the test
        videos of classes that were held out.

        Args:
            split: test or validation; by default `final_split`.
            renormalise: Take every network's normalisation statistics anew from the labelled clips.

        Raises:
            UserError: The split is empty, or a video changed.
        """
        self.check_knows_classes()
        return judging.evaluate(self, split, renormalise)

    def predict(self, paths: Sequence[Path | str]) -> Iterator[VideoPrediction | Unreadable]:
        """Predict files, or all videos (or images) in folders, with the answering model.

        In their order, decoded ahead of the networks. A file that does not read is one
        `Unreadable`; the rest go on.

        Raises:
            UserError: The run used no labels, or (on iterating) a folder holds nothing to predict.
        """
        self.check_knows_classes()
        knows_fakes = self.answering in self.know_fakes
        limit = judging.most_entropy(self)
        bodies = self.answering_bodies(self.frames(()))
        judges = [
            Judge(kept(self.answering_networks(b)), b.vectors, b.weight, b.name) for b in bodies
        ] or [Judge(kept(self.networks(self.answering)))]
        return predict_files(paths, judges, self.config, self.backend, limit, knows_fakes)

    def files(self, paths: Sequence[Path | str]) -> list[Path]:
        """The files that `predict` would read.

        Raises:
            UserError: A folder holds nothing to predict.
        """
        return expand(paths, self.config)

    def suggest(
        self, budget: int, file: Path | None = None, by: suggestions.By = "auto"
    ) -> list[Suggestion]:
        """The unlabelled training videos to label next, written as a table to be filled in.

        Args:
            budget: How many, >= 1; fewer where there are fewer.
            file: The CSV to write, to be filled in and given to `data.label_list`; by default
                `suggestions.csv` in the run's folder.
            by: How they are chosen.

        Raises:
            UserError: As `choose`; or the file is there and has answers filled in.
        """
        table = file or self.folder / "suggestions.csv"
        suggestions.check_free(table, self.manifest)  # before minutes of choosing
        chosen = self.choose(budget, by)
        suggestions.write_csv(table, chosen, self.manifest)
        return chosen

    def choose(
        self, budget: int, by: suggestions.By = "auto", answered: Mapping[str, bool] | None = None
    ) -> list[Suggestion]:
        """The unlabelled training videos to label next, as `asking.choose` has it.

        Args:
            budget: How many, >= 1; fewer where there are fewer.
            by: How they are chosen.
            answered: Paths of videos that were asked for since the training, and whether they have
                a label now.

        Raises:
            UserError: Every training video is labelled, or a video changed.
        """
        self.check_knows_classes()
        return asking.choose(self, budget, by, answered or {})

    def answering_rounds(self, model: str) -> Collection[int] | None:
        """The rounds whose networks answer for a model; None for all."""
        if model not in OF_ROUNDS:
            return None
        if (chosen := read_rounds(self.folder).get(model)) is not None:
            return chosen
        labelled = len(self.manifest.labelled)
        pool = len(self.manifest.part("train")) - labelled
        believes = has_pool(self.config.rounds, labelled, pool)
        return answering_rounds(self.config.rounds, self.config.train.rounds, believes)

    def num_networks(self, model: str) -> int:
        """How many networks a model is."""
        if model != BAYESIAN:
            return len(self.networks(model))
        return sum(
            len(self.bank.records(k, self.answering_rounds(model))) for k in kinds(self.config)
        )

    def check_knows_classes(self) -> None:
        """Raises UserError where the run learned from no labels."""
        if self.config.is_unsupervised:
            raise UserError(f"{self.folder} used no labels: its discriminators know no classes")

    def check_knows_items(self) -> None:
        """Raises UserError where the run was exported, without its items and generators."""
        if not self.manifest.items:
            raise UserError(
                f"{self.folder} was exported: it predicts, and knows no {self.config.items} of its "
                f"training and no generators; ask the run itself"
            )

    def frames(self, items: Sequence[Item]) -> Frames:
        """The frames of items whose files are still those of the run: each rank checks a share."""
        frames = Frames(self.config.data.root or self.manifest.root, self.config)
        for item in items[ranks.share(len(items))]:
            frames.check(item)
        return frames


def load(folder: Path | str, overrides: Sequence[str] = ()) -> TrainedRun:
    """Open a finished run."""
    return TrainedRun(Path(folder), overrides)


def kind_of(model: str) -> str:
    """The bank's word for the networks of a model of `metrics.json`."""
    return FIRST_KIND if model == BAYESIAN else model


def empty_discriminator(config: Config, manifest: Manifest) -> nn.Module:
    """A discriminator to load stored weights into; draws no random number anyone else uses."""
    return empty_network(config, config.num_classes(manifest.num_classes))
