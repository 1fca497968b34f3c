"""DYNACL: an encoder is trained without labels to be hard to fool, then classifiers on it are measured under attack.

CIFAR-10, ResNet-18: the paper reports 45 % AutoAttack accuracy under linear evaluation at eps 8/255 (46 % with LP-AFT)
after 1000 epochs, which take 29 hours on an RTX 3090. The demo takes seconds:

    retable run dynacl --scale demo
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from methods.dynacl.classify import Plan, PseudoLabels, Training, check_clusters, pseudo_labels, representations
from methods.dynacl.data import Part, Task, training_images, views
from methods.dynacl.measure import LearningCurve, ridge_robustness, robustness, show
from methods.dynacl.models import Classifier, make_encoder, single_route
from methods.dynacl.pretrain import Pretraining
from methods.dynacl.schedules import Augmentation
from retable.cards import CardError, Scalar, unknown
from retable.evaluate.attacks import VERSIONS, check_budget
from retable.plan import Cell
from retable.train.context import Context, Result, Stateful

METHODS = ("contrastive", "supervised", "untrained", "majority")
EVALUATIONS = ("slf", "alf", "aff")


@dataclass(frozen=True)
class Phase:
    """A stretch of epochs: `begin` comes before the first, `epoch` takes their number from 1 and returns the loss."""

    epochs: int
    begin: Callable[[], None]
    epoch: Callable[[int], float]


class Story:
    """All networks of a cell, built at the start so that a saved state is the same list of parts in every phase."""

    def __init__(self, task: Task, settings: dict[str, Scalar], context: Context) -> None:
        self.task, self.settings, self.context = task, settings, context
        self.method = str(settings["method"])
        if self.method not in METHODS:
            raise CardError(unknown("method", self.method, list(METHODS)))
        self.evaluations = str(settings["evaluations"]).split("+")
        for name in self.evaluations:
            if name not in EVALUATIONS:
                raise CardError(unknown("evaluation", name, list(EVALUATIONS)))
        if settings["aa_version"] not in VERSIONS:
            raise CardError(unknown("aa_version", str(settings["aa_version"]), list(VERSIONS)))
        for steps in ("attack_iters", "trades_iters", "alf_iters", "pgd_iters", "aa_iterations"):
            check_budget(float(settings["eps"]), float(settings["step_size"]), int(settings[steps]))
        if settings["lp_aft"]:
            check_clusters(int(settings["clusters"]), task.classes)
        self.route = "pgd" if settings["adversarial"] else "normal"
        self.curve = LearningCurve()
        self.pretraining = Pretraining(task, settings)
        self.tuned = self._classifier(int(settings["clusters"])) if settings["lp_aft"] else None
        self.labels = PseudoLabels(len(task.unlabelled)).to(task.train.x.device)
        s = settings
        lp = Plan("linear", int(s["lp_epochs"]), float(s["lp_lr"]), 1e-4, int(s["tune_batch"]), drops=())
        lp = replace(lp, views=int(s["probe_views"]))
        aft = Plan("trades", int(s["aft_epochs"]), float(s["aft_lr"]), 1e-4, int(s["tune_batch"]))
        self.tunings = [] if self.tuned is None else [Training(self.tuned, plan, s) for plan in (lp, aft)]
        supervised = self.method == "supervised"
        names = ["supervised"] if supervised else self.evaluations
        self.results = nn.ModuleDict({name: self._classifier(task.classes, single=name != "aff") for name in names})
        self.trainings = {name: Training(self.result(name), self._plan(name), s) for name in names}

    def _classifier(self, classes: int, *, single: bool = False) -> Classifier:
        encoder = make_encoder(str(self.settings["arch"]), (self.route,)) if single else None
        encoder = encoder or make_encoder(str(self.settings["arch"]))
        return Classifier(encoder, classes).to(self.task.train.x.device)

    def _plan(self, name: str) -> Plan:
        s, route = self.settings, self.route
        if name == "supervised":
            plan = Plan("trades", int(s["supervised_epochs"]), float(s["aft_lr"]), 2e-4, int(s["tune_batch"]))
            return replace(plan, clean_route=route, route=route)
        if name == "aff":
            plan = Plan("trades", int(s["aff_epochs"]), float(s["aff_lr"]), 2e-4, int(s["aff_batch"]), (0.6, 0.8))
            return replace(plan, clean_route="normal", route=route)
        what = "linear" if name == "slf" else "linear-attacked"
        plan = Plan(what, int(s["probe_epochs"]), float(s["probe_lr"]), 2e-4, int(s["probe_batch"]))
        return replace(plan, route=route, views=int(s["probe_views"]))

    def result(self, name: str) -> Classifier:
        """The classifier of an evaluation."""
        found = self.results[name]
        assert isinstance(found, Classifier)
        return found

    def parts(self) -> dict[str, Stateful]:
        """What a saved state holds."""
        optimisers = {f"optimiser {name}": training.optimiser for name, training in self.trainings.items()}
        optimisers |= {f"optimiser tuning {number}": t.optimiser for number, t in enumerate(self.tunings)}
        networks = {"pair": self.pretraining.pair, "results": self.results, "labels": self.labels, "curve": self.curve}
        tuned = {} if self.tuned is None else {"tuned": self.tuned}
        return {"optimiser": self.pretraining.optimiser, **networks, **tuned, **optimisers}

    def phases(self) -> list[Phase]:
        """What is trained one after the other."""
        train, s = self.task.train, self.settings
        if self.method == "supervised":
            own = self.trainings["supervised"]
            return [Phase(own.plan.epochs, lambda: None, lambda e: own.epoch(e, train, 0))]
        phases = []
        if self.method == "contrastive":
            phases.append(Phase(int(s["epochs"]), lambda: None, self._pretrain))
        for number, training in enumerate(self.tunings):
            begin = self._name_clusters if number == 0 else lambda: None
            phases.append(Phase(training.plan.epochs, begin, self._epoch_of(training, "tuning", pseudo=True)))
        for name, training in self.trainings.items():
            phases.append(Phase(training.plan.epochs, self._start_of(name), self._epoch_of(training, name)))
        return phases

    def _pretrain(self, epoch: int) -> float:
        loss = self.pretraining.epoch(epoch)
        encoder, epochs = self.pretraining.pair.result, self.pretraining.epochs
        self.curve.note(epoch, epochs, lambda: ridge_robustness(encoder, self.route, self.task, self.context))
        return loss

    def _name_clusters(self) -> None:
        """Pseudo-labels from the clean route, and the pre-trained encoder in the network that learns them."""
        assert self.tuned is not None
        encoder = self.pretraining.pair.result
        features = representations(encoder, self.task.unlabelled.x, "normal")
        seed = self.context.derive("clusters")
        self.labels.y.copy_(pseudo_labels(features, int(self.settings["clusters"]), self.task.classes, seed))
        self.tuned.encoder.load_state_dict(encoder.state_dict())
        self.tuned.zero()

    def _epoch_of(self, training: Training, name: str, *, pseudo: bool = False) -> Callable[[int], float]:
        # Halved: the views' numbers are added to it.
        seed = self.context.derive("augmentations", name) >> 1
        data = Part(self.task.unlabelled.x, self.labels.y) if pseudo else self.task.train
        return lambda epoch: training.epoch(epoch, data, seed)

    def _start_of(self, name: str) -> Callable[[], None]:
        def begin() -> None:
            encoder = self.pretraining.pair.result if self.tuned is None else self.tuned.encoder
            classifier = self.result(name)
            source = encoder if name == "aff" else single_route(encoder, self.route)
            classifier.encoder.load_state_dict(source.state_dict())
            classifier.zero()

        return begin


# Training -------------------------------------------------------------------------------------------------------------


def build(cell: Cell, context: Context) -> Story:
    """Data and untrained networks of a cell; the weights depend on the seed only."""
    task = Task(*context.data(), context.device)
    context.seed_torch("weights")
    return Story(task, cell.settings, context)


def run(cell: Cell, context: Context) -> Result:
    """Train one seed and measure it. Metrics are accuracies in percent."""
    if cell.settings["method"] == "majority":
        return majority(context)
    story = build(cell, context)
    train(story.phases(), story.parts(), context)
    for name in story.results:
        context.save_weights(name, story.result(name).state_dict())
    main = next(iter(story.results))
    show(story.result(main), story.route, story.task, context)
    series = story.curve.series() if story.method == "contrastive" else {}
    return Result(measure(story), series)


def train(phases: list[Phase], parts: dict[str, Stateful], context: Context) -> None:
    """All phases one after the other; `parts` are what a saved state holds at an epoch's end."""
    ends = torch.tensor([phase.epochs for phase in phases]).cumsum(0).tolist()
    for epoch in context.epochs(ends[-1], phase="", **parts):
        number = next(place for place, end in enumerate(ends) if epoch <= end)
        local = epoch - (ends[number - 1] if number else 0)
        if local == 1:
            phases[number].begin()
        context.log(epoch, loss=phases[number].epoch(local))


def evaluate(cell: Cell, context: Context) -> Result:
    """The metrics of a finished run from the weights it kept, without training."""
    if cell.settings["method"] == "majority":
        return majority(context)
    story = build(cell, context)
    for name in story.results:
        story.result(name).load_state_dict(context.load_weights(name))
    return Result(measure(story))


def measure(story: Story) -> dict[str, float]:
    """Metrics of all classifiers: the first one's under their plain names, those of others behind theirs."""
    metrics: dict[str, float] = {}
    for number, name in enumerate(story.results):
        values = robustness(story.result(name), story.route, story.task, story.context)
        metrics |= {(f"{name}_{metric}" if number else metric): value for metric, value in values.items()}
    return metrics


def majority(context: Context) -> Result:
    """Always the most frequent training class: no attack changes that answer."""
    task = Task(*context.data(), torch.device("cpu"))
    answer = int(torch.bincount(task.train.y).argmax())
    s = context.cell.settings
    shares = {"accuracy": len(task.test), "pgd_accuracy": int(s["attacked_images"])}
    return Result(
        {name: 100 * float((task.test.first(number).y == answer).double().mean()) for name, number in shares.items()}
    )


def fixed_batch(cell: Cell, context: Context) -> tuple[nn.Module, Callable[[], Tensor]]:
    """The trained network and its loss on one batch, views and adversarial images drawn once."""
    story = build(cell, context)
    s, size = cell.settings, int(cell.settings["batch_size"])
    context.seed_torch("fixed batch")
    if story.method == "supervised":
        training, train = story.trainings["supervised"], story.task.train.first(size)
        x = training_images(train.x, s)
        attacked = training.attack(x, train.y)
        return training.classifier, lambda: training.loss(x, attacked, train.y)
    pretraining = story.pretraining
    strength, weight = pretraining.schedule(1)
    clean = views(story.task.unlabelled.first(size).x, Augmentation.of_strength(strength), s)
    attacked_views = pretraining.attack(clean) if s["adversarial"] else None
    pretraining.pair.train()
    return pretraining.pair, lambda: pretraining.loss(clean, attacked_views, weight)
