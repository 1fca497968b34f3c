"""Campaigns: measure what is not decided, in the order of value per hour, in a clone of its own.

A number of a paper is worth 1, a headline statement 5, times the chance that the planned seeds decide it: 80 % for a
look two of the size that its design gives, and for look one the share that look one has decided so far. A statement is
decided by any of its parts. Rows stay on the kind of device that the records of their table have.
"""

import math
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from retable.assessments import inputs
from retable.background import Background
from retable.cards import CardError, unknown
from retable.checkout import require_clean, running_tree
from retable.config import Workspace
from retable.currency import FINISHED, RecordStore
from retable.plan import Cell
from retable.preflight import GPU_RATE, HOURS, History, device_of, operations
from retable.publishing import publish_finished
from retable.records import RunRecord
from retable.rehearsal import CPU_RATE, load_rehearsal, rehearse
from retable.report.words import claim_name, duration, part, plural
from retable.rows import Row
from retable.significance import ALPHA, POWER
from retable.tasks import Task, write_list
from retable.verdicts import Assessment, assess

FOLDER = ".background/campaign"
NUMBER, STATEMENT = 1.0, 5.0
# Of look one, where none was taken yet that could tell.
EVEN = 0.5
PUBLISH_SECONDS = 60.0
POLL_SECONDS = 1.0
Key = tuple[str, ...]
UNMEASURED = ("not run", "incomplete", "stale", "failed")


@dataclass(frozen=True, eq=False)
class Question:
    """A number, or a part of a headline statement, that more seeds could decide.

    `key` is what it belongs to: several parts stand for one statement. `seeds` are those in all that its cells need.
    """

    key: Key
    name: str
    value: float
    chance: float
    seeds: Mapping[str, int]


@dataclass
class Choice:
    """A question to ask, with what is left to measure for it once those before it are."""

    question: Question
    worth: float
    seeds: int
    seconds: float


@dataclass
class View:
    """What is measured and decided now."""

    store: RecordStore
    assessments: dict[str, Assessment]
    cells: dict[str, Cell]
    have: set[tuple[str, int]] = field(default_factory=set)
    places: dict[Key, str] = field(default_factory=dict)

    @classmethod
    def of(cls, workspace: Workspace) -> "View":
        papers, claims, cells_by_scale, store = inputs(workspace)
        cells = [cell for group in cells_by_scale.values() for cell in group]
        wanted = [name for name in papers if not workspace.config.papers or name in workspace.config.papers]
        view = cls(
            store,
            {n: assess(papers[n], claims[n], cells, store.records, store.currency, store.looks) for n in wanted},
            {cell.identity: cell for cell in cells},
        )
        kinds: dict[Key, Counter[str]] = defaultdict(Counter)
        for record in current(store):
            view.have.add((record.identity, record.seed))
            kinds[place_of(record.cell)][record.environment.get("device", "").partition(":")[0]] += 1
        view.places = {place: counts.most_common(1)[0][0] for place, counts in kinds.items()}
        return view

    def lacking(self, identity: str, seeds: int) -> list[int]:
        """Seeds of a cell without a record that counts."""
        return [seed for seed in range(seeds) if (identity, seed) not in self.have]

    def states(self) -> dict[Key, str]:
        """The state of every number at full scale and of every headline statement, by a question's key."""
        found: dict[Key, str] = {}
        for name, assessment in self.assessments.items():
            for value in assessment.values:
                if value.row and value.row.scale == "full":
                    found[name, "number", value.claim.id] = value.state
            for verdict in assessment.statements:
                found[name, "statement", verdict.statement.id, verdict.scale] = verdict.state
        return found


def current(store: RecordStore) -> list[RunRecord]:
    """The records that a campaign does not measure again."""
    return [r for r in store.records if store.state(r)[0] in FINISHED]


def place_of(cell: Cell) -> Key:
    """The table that a cell stands in: its rows are compared, so they come from one kind of device."""
    return cell.paper, cell.recipe, cell.scale, cell.dataset


def questions(view: View) -> Iterator[Question]:
    """What is not decided at a scale above the demo, and could be by its first look or by a second one."""
    values = [value for each in view.assessments.values() for value in each.values]
    parts = [p for each in view.assessments.values() for verdict in each.statements for p in verdict.parts]
    numbers = _decided([value.state != "inconclusive" for value in values if len(value.looks) == 1])
    shown = _decided([p.finding != "undecided" for p in parts if p.finding != "open" and len(p.looks) == 1])
    for name, assessment in view.assessments.items():
        for value in assessment.values:
            claim, row = value.claim, value.row
            if row is None or row.scale != "full" or claim.used_for or claim.unreliable:
                continue
            key: Key = (name, "number", claim.id)
            said = f"{name}: {claim_name(claim)}"
            if value.look_two:
                yield Question(key, said, NUMBER, POWER, _seeds([row], value.look_two))
            elif value.state in UNMEASURED:
                yield Question(key, said, NUMBER, numbers, _seeds([row], 0))
        for verdict in assessment.statements:
            if verdict.scale == "demo" or verdict.state not in ("undecided", "not measured"):
                continue
            key = (name, "statement", verdict.statement.id, verdict.scale)
            for each in verdict.parts:
                place = f" on {each.rows[0].dataset}" if each.rows else ""
                said = f"{name}: {verdict.statement.id} at {verdict.scale} scale: {part(each)}{place}"
                seeds = each.seeds_to_decide(ALPHA / len(verdict.parts), tails=2)
                if each.finding == "undecided" and seeds:
                    yield Question(key, said, STATEMENT, POWER, _seeds(each.rows, seeds))
                elif each.finding == "open" and each.state in UNMEASURED:
                    yield Question(key, said, STATEMENT, shown, _seeds(each.rows, 0))


def _decided(flags: Sequence[bool]) -> float:
    return sum(flags) / len(flags) if flags else EVEN


def _seeds(rows: Sequence[Row], seeds: int) -> dict[str, int]:
    return {cell.identity: seeds for row in rows for cell in row.cells}


class Campaign:
    """What is not decided, priced for a device, and its measurement. `hours` are those of the clock; `say` gets lines.

    Raises CardError for no jobs, no time and an unknown paper.
    """

    def __init__(self, workspace: Workspace, jobs: int, hours: float, say: Callable[[str], None]) -> None:
        if jobs < 1 or not hours > 0:
            raise CardError(f"--jobs {jobs} for {hours:g} hours: needs at least one job and more than no time")
        for name in workspace.config.papers or ():
            if name not in workspace.papers:
                raise CardError(unknown("paper", name, list(workspace.papers)))
        self.workspace, self.jobs, self.say = workspace, jobs, say
        self.seconds = hours * 3600
        self.device = device_of(workspace)
        self.view = View.of(workspace)
        self._histories = [History(self.view.store.records, kind) for kind in dict.fromkeys((self.device, "cpu"))]
        self._prices: dict[str, float | None] = {}
        self._rehearsed = load_rehearsal(workspace.root)
        self.chosen: list[Choice] = []
        self.unpriced: dict[str, None] = {}
        self.planned: dict[str, int] = {}
        self.open = [
            replace(each, seeds=seeds) for each in questions(self.view) if (seeds := self._fixed(each)) is not None
        ]

    # Prices

    def price(self, identity: str) -> float | None:
        """Seconds of a seed on the device, None where nothing tells.

        By its records; by counted operations, for a GPU only where a run has it alone, since large networks fill it; by
        a rehearsal. For a GPU without records, what a processor's core takes stands in: it is the most.
        """
        if identity not in self._prices:
            cell = self.view.cells[identity]
            known = next((each.seconds(cell) for each in self._histories if each.of(cell)), None)
            if known is None and (count := operations(self.workspace, cell)):
                known = count / CPU_RATE if self.device == "cpu" else count / GPU_RATE if self.jobs == 1 else None
            elif known is None and (line := self._rehearsed.get(identity)):
                known = line.whole_seconds
            self._prices[identity] = known
        return self._prices[identity]

    # The list

    def _fixed(self, question: Question) -> dict[str, int] | None:
        """Seeds in all of a question's cells, by their looks; None where it cannot be asked here."""
        found = {}
        for identity, seeds in question.seeds.items():
            cell, stored = self.view.cells[identity], self.view.store.looks.stored.get(identity, ())
            card = self.workspace.datasets[cell.dataset]
            elsewhere = self.view.places.get(place_of(cell), self.device) != self.device
            if elsewhere or (card.local and not (self.workspace.raw / card.local).exists()):
                return None
            first = stored[0] if stored else len(cell.seeds)
            # A look that is begun has its number of seeds.
            found[identity] = first if seeds <= first else stored[1] if len(stored) == 2 else seeds
            if found[identity] < seeds:
                return None
        if not any(self.view.lacking(*each) for each in found.items()):
            return None
        if unpriced := [identity for identity in found if self.price(identity) is None]:
            self.unpriced |= dict.fromkeys(unpriced)
            return None
        return found

    def choose(self) -> list[Choice]:
        """The questions to ask, the most value per hour first, as many as the time allows for.

        What is chosen is measured: it costs the next question nothing, and a statement counts for the rest of its
        chance.
        """
        left, capacity = list(self.open), self.seconds * self.jobs
        self.planned = {}
        undecided: defaultdict[Key, float] = defaultdict(lambda: 1.0)
        chosen: list[Choice] = []
        while left:
            offers = [self._offer(each, undecided[each.key]) for each in left]
            offers = [each for each in offers if each.seconds <= capacity]
            if not offers:
                break
            best = max(offers, key=lambda each: each.worth / max(each.seconds, 1.0))
            left.remove(best.question)
            for identity, seeds in best.question.seeds.items():
                self.planned[identity] = max(self.planned.get(identity, 0), seeds)
            undecided[best.question.key] *= 1 - best.question.chance
            capacity -= best.seconds
            chosen.append(best)
        self.chosen = chosen
        return chosen

    def _offer(self, question: Question, undecided: float) -> Choice:
        count, seconds = 0, 0.0
        for identity, each in question.seeds.items():
            new = sum(1 for seed in self.view.lacking(identity, each) if seed >= self.planned.get(identity, 0))
            count, seconds = count + new, seconds + new * (self.price(identity) or 0.0)
        return Choice(question, question.value * undecided * question.chance, count, seconds)

    def announce(self) -> None:
        """Say what would be measured, in which order, and what that is expected to decide."""
        chosen = self.choose()
        self.say(f"{'value':>6} {'per hour':>9} {'seeds':>6} {'time':>9}  question")
        for each in chosen:
            rate = f"{each.worth / each.seconds * 3600:.1f}" if each.seconds else "free"
            self.say(f"{each.worth:6.2f} {rate:>9} {each.seeds:6} {duration(each.seconds):>9}  {each.question.name}")
        spent = sum(each.seconds for each in chosen) / 3600
        worth = {kind: sum(c.worth for c in chosen if c.question.value == kind) / kind for kind in (NUMBER, STATEMENT)}
        keys = Counter(key[1] for key in {each.question.key for each in chosen})
        self.say(
            f"{sum(each.seeds for each in chosen)} seeds, {spent:.2f} {HOURS[self.device]}, about "
            f"{duration(spent * 3600 / self.jobs)} with {plural(self.jobs, 'run')} side by side: asks "
            f"{plural(keys['number'], 'number')} and {plural(keys['statement'], 'statement')}, expected to decide "
            f"{worth[NUMBER]:.1f} and {worth[STATEMENT]:.1f}"
        )
        rest = len(self.open) - len(chosen)
        self.say(
            f"left for more time: {plural(rest, 'question')}; {plural(len(self.unpriced), 'cell')} without a price"
        )

    def tasks(self) -> list[Task]:
        """The seeds to measure for what is chosen, those of the first question first."""
        order = dict.fromkeys(identity for each in self.chosen for identity in each.question.seeds)
        found = [(self.view.cells[name], self.view.lacking(name, self.planned[name])) for name in order]
        return [Task(scale=cell.scale, cell=cell.identity, seeds=seeds) for cell, seeds in found if seeds]

    # Measuring

    def measure(self, at: str = "HEAD") -> int:
        """Measure the list in a clone, publish each cell once it is complete, and say what was decided.

        The same call goes on where the time was over. Returns 1 where the workers ended with seeds left. Raises
        CardError for uncommitted changes: what is published names a commit.
        """
        require_clean(running_tree(), "begin a campaign")
        if not (tasks := self.tasks()):
            self.say("nothing is left to measure in this time")
            return 0
        background = Background.around(self.workspace.root, FOLDER)
        path = background.folder / "list.json"
        write_list(path, tasks)
        arguments = ["--list", str(path), "--device", self.device, "--runs-per-gpu", str(self.jobs)]
        deadline = time.monotonic() + self.seconds
        if background.alive():  # those of a call that was killed
            background.stop()
        for line in background.start(arguments, self.jobs, at)[:-1]:
            self.say(line)
        self.say(f"{plural(self.jobs, 'worker')} in {background.clone}; their logs: {background.folder}/worker-*.log")
        published = time.monotonic()
        # A batch system ends a job so: its workers end with it, and what they finished is published.
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            while background.alive() and time.monotonic() < deadline:
                time.sleep(POLL_SECONDS)
                if time.monotonic() - published > PUBLISH_SECONDS:
                    self._publish(background, tasks)
                    published = time.monotonic()
        except KeyboardInterrupt:
            self.say("interrupted; the same command goes on")
        finally:
            signal.signal(signal.SIGTERM, before)
        cut_short = bool(background.alive())
        if cut_short:
            background.stop()
        self._publish(background, tasks)
        left = self._conclude(tasks)
        return 1 if left and not cut_short else 0

    def _publish(self, background: Background, tasks: Sequence[Task]) -> None:
        """Collect what is finished and publish the cells of which all seeds are."""
        background.collect()
        store = RecordStore.open(self.workspace)
        have = {(record.identity, record.seed) for record in current(store)}
        complete = [
            replace(self.view.cells[task.cell], seeds=tuple(range(self.planned[task.cell])))
            for task in tasks
            if all((task.cell, seed) in have for seed in range(self.planned[task.cell]))
        ]
        if complete:
            publish_finished(store, complete)

    def _conclude(self, tasks: Sequence[Task]) -> int:
        after = View.of(self.workspace)
        left = sum(len(after.lacking(task.cell, self.planned[task.cell])) for task in tasks)
        total = sum(len(task.seeds) for task in tasks)
        before, now = self.view.states(), after.states()
        for key, state in now.items():
            if state != before.get(key):
                self.say(f"{' '.join(key)}: {before.get(key)} -> {state}")
        self.say(f"{total - left} of {plural(total, 'seed')} are measured; commit results/published")
        return left

    def rehearse(self, steps: int) -> int:
        """Run each cell of the whole list cut short, those without a price first; see `rehearse`."""
        limit, self.seconds = self.seconds, math.inf
        self.choose()
        names = dict.fromkeys([*self.unpriced, *(task.cell for task in self.tasks())])
        return rehearse(self.workspace, [self.view.cells[name] for name in names], steps, limit, self.say)
