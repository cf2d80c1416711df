"""What all rounds of a run share: its data, its bodies, its bank, and what they are asked."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bgan_video import ranks
from bgan_video.backend import Backend
from bgan_video.config import ON_FEATURES, SELF_TRAINING, Config, Method
from bgan_video.data.frames import Frames
from bgan_video.data.loading import Stream, load
from bgan_video.data.manifest import Item, Manifest
from bgan_video.data.streams import (
    LabelledBatch,
    UnlabelledBatch,
    labelled_batches,
    labelled_stream,
    unlabelled_stream,
)
from bgan_video.errors import UserError
from bgan_video.method.rounds import answering_rounds, candidates
from bgan_video.prediction import diagnosis, on_features
from bgan_video.prediction.answering import OF_ROUNDS, choose, read_rounds, write_rounds
from bgan_video.prediction.bodies import FIRST_KIND, Body, predict_models, weighed
from bgan_video.prediction.chunks import test_chunks
from bgan_video.prediction.judging import BAYESIAN, RENORMALISING_BATCHES
from bgan_video.prediction.predict import (
    Current,
    Networks,
    Prediction,
    Stored,
    figures,
)
from bgan_video.prediction.together import fit_weights, write_weights
from bgan_video.prediction.trained import empty_discriminator, kind_of
from bgan_video.sampling import SampleBank
from bgan_video.training import console, rounds
from bgan_video.training.learners import Learned
from bgan_video.training.lineup import ColdGAN, Models

_Step = tuple[LabelledBatch | None, UnlabelledBatch, dict[str, LabelledBatch | None]]
_PROBE: Method = "self_training_probe"
# Streams that are no method's own.
_LABELS, _UNLABELLED = "labels", "unlabelled"


def _asks_test(config: Config, manifest: Manifest) -> bool:
    """Whether the final figures are of test videos, so that others may be asked what to choose."""
    return manifest.judged_on(config.train.final_split) == "test"


def check_validation(config: Config, manifest: Manifest) -> None:
    """Before anything is trained: look whether there is what settings are fitted on.

    Raises:
        UserError: There are no validation videos, or the run would be judged on what it was fitted
            to.
    """
    asking = [f"baseline.methods: {m}" for m in config.baseline.methods if m in ON_FEATURES]
    if config.weighs_bodies:
        asking.append("discriminator.combine=weighed")
        if not _asks_test(config, manifest):
            raise UserError(
                "discriminator.combine=weighed is fitted to the validation videos, and this run is "
                "judged on them; set discriminator.combine=product, or give it test videos and "
                "train.final_split=test"
            )
    if asking and not manifest.part("validation"):
        raise UserError(
            f"{asking[0]} goes by validation videos, and there are none; set "
            f"data.validation_fraction above 0"
        )


@dataclass(frozen=True)
class Session:
    """A run while it trains.

    Attributes:
        config: The run's settings.
        backend: Device and precision.
        folder: The run's.
        manifest: Its items.
        frames: Theirs.
        bank: Where networks are stored.
        bodies: Of the Bayesian GAN; none where it is not trained.
        features: What the methods on frozen features see; None where there are none.
    """

    config: Config
    backend: Backend
    folder: Path
    manifest: Manifest
    frames: Frames
    bank: SampleBank
    bodies: Sequence[Body]
    features: Body | None = None

    @property
    def batches_per_epoch(self) -> int:
        """Of unlabelled items."""
        return math.ceil(len(self.manifest.part("train")) / self.config.train.batch_size)

    def streams(
        self, models: Models, believed: rounds.Believed
    ) -> dict[str, Stream[LabelledBatch] | Stream[UnlabelledBatch] | None]:
        """What a round learns from, by name; nothing is read that nobody learns from.

        Args:
            models: Who learns.
            believed: The pseudo-labels of this round, by method.

        Returns:
            The clips of the true labels, those of all training items, and those of each method or
            body that believes more or sees something else.
        """
        items = self.manifest.labelled

        def clips(method: str) -> Stream[LabelledBatch] | None:
            return labelled_stream(items, self.frames, self.config, believed.get(method, ()))

        own = {method: clips(method) for method in believed if method in SELF_TRAINING}
        of_chains = believed.get("bayesian_gan", ())
        for body in self.bodies:
            if of_chains or body.config is not self.config:
                key = "bayesian_gan" if body.kind == FIRST_KIND else body.kind
                seen, more = body.items(items), body.items(of_chains)
                own[key] = labelled_stream(seen, body.frames, body.config, more)
        learning = {m.model for m in models.learners if not isinstance(m, ColdGAN)}
        if models.chains is not None:
            learning.add("bayesian_gan")
        labels = None if learning <= set(own) else clips(_LABELS)
        unlabelled = unlabelled_stream(self.manifest.part("train"), self.frames, self.config)
        return {_LABELS: labels, _UNLABELLED: unlabelled, **own}

    def batches(
        self, streams: Mapping[str, Stream[Any] | None], done: int
    ) -> Generator[_Step, None, None]:
        """What steps learn from: true labels, unlabelled items, and what methods have of their own.

        Args:
            streams: As `streams` has them.
            done: Steps of the run so far.
        """
        for batches in load(streams, done, self.config):
            yield batches.pop(_LABELS), batches.pop(_UNLABELLED), batches

    def believe(self, number: int) -> rounds.Believed:
        """What a round learns from beside the labels: judged by the networks of the one before."""
        believers = rounds.believers(self.config)
        if number == 0 or not believers:
            return {}
        pool = rounds.Pool(self.manifest, self.config)
        if ranks.first_says(lambda: not rounds.path(self.folder, number).is_file()):
            self._judge(number, believers, pool)
        rounds.say(self.folder, number, pool)
        return rounds.believed(self.folder, number, pool)

    def _judge(self, number: int, believers: Sequence[str], pool: rounds.Pool) -> None:
        """Write what a round believes."""
        ranks.meet(self.bank.folder)
        before = {number - 1}
        teachers = {m: self._stored(m, before) for m in believers if m in SELF_TRAINING}
        posteriors = {"bayesian_gan": self._of_body(before)} if self.bodies else {}
        bodies = self._weighed(before) if self.config.weighs_bodies else self.bodies
        has_probe = _PROBE in believers

        def judge(items: Sequence[Item]) -> dict[str, Prediction]:
            said: dict[str, Prediction] = {}
            if teachers or posteriors:
                said |= self._predict(items, teachers, posteriors, bodies)[0]
            return said | ({_PROBE: self._ask(_PROBE, items, before)} if has_probe else {})

        multiplied = self.bodies and self.config.discriminator.combine != "mean"
        voices = sum(body.weight for body in bodies) if multiplied else 1.0
        rounds.judge(number, judge, pool, self.folder, voices)

    def end_round(self, number: int) -> None:
        """At the end of a round: the probe that learns in rounds without steps, if there is one."""
        if _PROBE in self.config.baseline.methods:
            self._fit(_PROBE, number)

    def finish(self) -> None:
        """At the end: what is fitted without steps, where it is not there. One rank writes."""
        last = self.config.train.rounds
        for method in self.config.baseline.methods:
            if method in ON_FEATURES:
                self._fit(method, last)
        ranks.meet(self.bank.folder)
        pool = rounds.Pool(self.manifest, self.config)
        if self._validation_chooses(pool):
            models = [model for model in OF_ROUNDS if self.bank.records(kind_of(model))]
            chosen = {model: self._chosen(model) for model in models}
            if ranks.is_first():
                write_rounds(self.folder, chosen)
            ranks.meet(self.bank.folder)  # where that lies
            said = "; ".join(f"{m} {', '.join(map(str, of))}" for m, of in chosen.items())
            console.say(f"rounds that answer, by the validation {self.config.items}: {said}")
        if self.config.weighs_bodies:
            auto = answering_rounds(self.config.rounds, last, pool.is_large_enough)
            bodies = self._weighed(read_rounds(self.folder).get(BAYESIAN, auto))
            if ranks.is_first():
                write_weights(self.folder, {body.name: body.weight for body in bodies})

    def _validation_chooses(self, pool: rounds.Pool) -> bool:
        """Whether rounds answer by the validation videos: `rounds.answer=auto`, and there are."""
        config, has_some = self.config, bool(self.manifest.part("validation"))
        asked = config.train.rounds > 0 and config.rounds.answer == "auto"
        is_free = has_some and _asks_test(config, self.manifest)
        return asked and is_free and pool.is_large_enough

    def _chosen(self, model: str) -> list[int]:
        """The rounds whose networks answer for a model, by the validation videos' labels."""
        items = self.manifest.part("validation")

        def ask(among: range) -> Prediction:
            if model == _PROBE:
                return self._ask(_PROBE, items, among)
            if model != BAYESIAN:
                return self._predict(items, {model: self._stored(model, among)}, {})[0][model]
            bodies = self._weighed(among) if self.config.weighs_bodies else self.bodies
            return self._predict(items, {}, {model: self._of_body(among)}, bodies)[0][model]

        labels = torch.tensor([item.label for item in items])
        return choose(candidates(self.config.train.rounds), ask, labels)

    def _weighed(self, among: Collection[int]) -> Sequence[Body]:
        """The bodies with what their words are worth: by the validation videos' labels.

        Args:
            among: The rounds whose networks are asked.
        """
        items = self.manifest.part("validation")
        _, parts = self._predict(items, {}, {"bayesian": self._of_body(among)})
        labels = torch.tensor([item.label for item in items])
        weights = fit_weights(list(parts["bayesian"].values()), labels)
        names = [body.name for body in self.bodies]
        return weighed(self.bodies, dict(zip(names, weights, strict=True)))

    def learned(self, number: int, method: str) -> Learned:
        """What the networks of a method learned from in a round."""
        believed: Sequence[Item] = ()
        if method in rounds.believers(self.config):
            pool = rounds.Pool(self.manifest, self.config)
            believed = rounds.believed(self.folder, number, pool).get(method, ())
        items, first = self.manifest.labelled, number * self.config.train.steps
        given = (items, self.frames, self.config, first, believed)

        def clips() -> Iterator[Tensor]:
            batches = islice(labelled_batches(*given, whole=True), RENORMALISING_BATCHES)
            return (batch.x for batch in batches if batch is not None)

        def middle() -> Iterator[LabelledBatch]:
            clip = dataclasses.replace(self.config.clip, test_clips=1, test_crops=1)
            of_one = dataclasses.replace(self.config, clip=clip)
            for chunk in test_chunks([*items, *believed], self.frames, of_one):
                yield LabelledBatch(chunk.clips, chunk.labels)

        return Learned(clips, middle)

    def _fit(self, method: Method, number: int) -> None:
        """Fit and store a method's network of a round."""
        assert self.features is not None, "a method on features has some"
        if not ranks.is_first() or self.bank.records(method, {number}):
            return
        believed: rounds.Believed = {}
        if method == _PROBE:
            pool = rounds.Pool(self.manifest, self.config)
            believed = rounds.believed(self.folder, number, pool)
        given = (self.features, self.manifest, self.config, believed.get(method, ()))
        network = on_features.fit(method, *given)
        self.bank.add(method, (number + 1) * self.config.train.steps, 0, network.state_dict())

    def _ask(self, method: Method, items: Sequence[Item], among: Collection[int]) -> Prediction:
        assert self.features is not None, "a method on features has some"
        given = (self.bank, method, self.manifest.num_classes, among, self.backend.device)
        return self.features.ask({method: on_features.stored(*given)}, items, self.backend)[method]

    def can_judge(self, models: Models) -> bool:
        """Whether a model is there to evaluate on the way."""
        return models.classify_alone or bool(self.bank.records(_PROBE, {models.round}))

    def evaluate(self, step: int, models: Models) -> dict[str, Any]:
        """A line of evaluations.jsonl: the posterior so far, and whoever answers alone.

        The probe that learns in rounds answers from the end of each on. All ranks judge, each its
        share; the first one says what the log tells of the chains.
        """
        started = time.perf_counter()
        config, split, level = self.config, self.config.train.evaluate_on, self.config.item_level
        items = self.manifest.part(split)
        labels = torch.tensor([item.label for item in items])
        pool = rounds.Pool(self.manifest, config)
        so_far = answering_rounds(config.rounds, models.round, pool.is_large_enough)
        now = {models.round}
        rivals: dict[str, Networks] = {}
        posteriors: dict[str, Callable[[Body], Networks]] = {}
        of_round: dict[str, str] = {}
        steps = {record.step for record in self.bank.records(FIRST_KIND, so_far)}
        if models.chains is not None:
            posteriors["bayesian"] = self._of_body(so_far, models)
        if all(self.bank.records(body.kind, now) for body in self.bodies) and self.bodies:
            of_round["bayesian"] = "the round's bayesian"
            posteriors[of_round["bayesian"]] = self._of_body(now)
        for model, learner in ((m.model, m) for m in models.learners if m.answers_alone):
            rivals[model] = Current(learner.networks)
            if model in SELF_TRAINING and self.bank.records(model, now):
                of_round[model] = f"the round's {model}"
                rivals[of_round[model]] = self._stored(model, now)
                rivals[model] = self._stored(model, so_far)
        predictions, parts = self._predict(items, rivals, posteriors)
        if self.bank.records(_PROBE, now):
            of_round[_PROBE] = f"the round's {_PROBE}"
            asked = {_PROBE: so_far, of_round[_PROBE]: now}
            predictions |= {name: self._ask(_PROBE, items, of) for name, of in asked.items()}
        scores = {name: figures(p, labels, level) for name, p in predictions.items()}
        record: dict[str, Any] = {
            "step": step,
            "split": split,
            "samples": len(steps),
            "models": {n: of for n, of in scores.items() if n not in of_round.values()},
        }
        if config.train.rounds:
            record["round"] = models.round
            record["of_round"] = {model: scores[name] for model, name in of_round.items()}
        if "bayesian" in of_round and models.samples_posterior and ranks.is_first():
            first = self.bodies[0]
            said = parts[of_round["bayesian"]][first.name].network_probabilities
            record["diagnostics"] = diagnosis.diagnose(
                self.folder, first.config, models.round, said, labels
            )
        return record | {"seconds": time.perf_counter() - started}

    def _stored(self, kind: str, among: Collection[int]) -> Stored:
        """Networks of the settings' own body in the bank, of some rounds."""
        module = empty_discriminator(self.config, self.manifest).to(self.backend.device)
        return Stored(self.bank, kind, module, among)

    def _of_body(
        self, among: Collection[int], models: Models | None = None
    ) -> Callable[[Body], Networks]:
        """From a body to its networks.

        Args:
            among: The rounds whose networks in the bank are meant.
            models: Whose networks stand in where the bank has none yet.
        """

        def networks(body: Body) -> Networks:
            if models is not None and not self.bank.records(body.kind, among):
                return Current(models.of_body(body))
            module = body.network().to(self.backend.device)
            return Stored(self.bank, body.kind, module, among)

        return networks

    def _predict(
        self,
        items: Sequence[Item],
        rivals: Mapping[str, Networks],
        posteriors: Mapping[str, Callable[[Body], Networks]],
        bodies: Sequence[Body] | None = None,
    ) -> tuple[dict[str, Prediction], dict[str, dict[str, Prediction]]]:
        seen = self.bodies if bodies is None else bodies
        given = (self.frames, self.config, rivals, posteriors, seen, self.backend)
        return predict_models(items, *given)
