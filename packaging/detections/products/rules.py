"""The Sigma rules as the products need them."""

import pathlib
import re
from dataclasses import dataclass, field

import yaml
from sigma.collection import SigmaCollection
from sigma.processing.pipeline import ProcessingPipeline

HERE = pathlib.Path(__file__).resolve().parent.parent
ATTACK = yaml.safe_load((HERE / "attack.yml").read_text())
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class NotExpressible(Exception):
    """A product cannot run a rule; the text says why."""


@dataclass
class Rule:
    """A rule that alerts. A correlation has the rules that it counts."""

    file: str
    sigma: dict
    parts: list = field(default_factory=list)

    def __getattr__(self, name):
        return self.sigma[name]

    @property
    def correlation(self):
        return self.sigma.get("correlation")

    @property
    def kind(self):
        """`event`, `event_count`, `value_count`, `temporal_ordered`."""
        return self.correlation["type"] if self.correlation else "event"

    @property
    def group(self):
        return self.correlation["group-by"]

    @property
    def count(self):
        return self.correlation["condition"]["gte"]

    @property
    def seconds(self):
        """The time that the correlation covers, with that of a correlation in it."""
        if not self.correlation:
            return 0
        span = self.correlation["timespan"]
        own = int(span[:-1]) * UNITS[span[-1]]
        return own + sum(part.seconds for part in self.parts)

    @property
    def text(self):
        return " ".join(self.description.split())

    @property
    def is_enabled(self):
        """Whether the rule is of use before its names are set."""
        return self.sigma.get("enabled", True)

    def techniques(self):
        return [tag.removeprefix("attack.") for tag in self.sigma.get("tags", []) if re.match(r"attack\.t\d", tag)]

    def techniques_of(self, tactic):
        """Those that belong to a tactic, as ATT&CK has them."""
        return [tag for tag in self.techniques() if tactic in ATTACK["techniques"][tag.split(".")[0]][1:]]

    def tactics(self):
        return [tag.removeprefix("attack.") for tag in self.sigma.get("tags", []) if not re.match(r"attack\.t\d", tag)]


def minutes(seconds):
    return f"{-(-seconds // 60)}m"


def load():
    """All rules that alert, by file name. Rules below `base` are parts of correlations."""
    found = {}
    for path in sorted((HERE / "sigma").rglob("*.yml")):
        for sigma in yaml.safe_load_all(path.read_text()):
            found[path.stem] = Rule(path.stem, sigma)
    names = {rule.sigma.get("name", stem): rule for stem, rule in found.items()}
    for rule in found.values():
        if rule.correlation:
            rule.parts = [names[name] for name in rule.correlation["rules"]]
    base = {path.stem for path in (HERE / "sigma" / "base").glob("*.yml")}
    alerting = [rule for stem, rule in found.items() if stem not in base]
    for rule in alerting:
        check_attack(rule)
    return alerting


def check_attack(rule):
    """A technique is shown below its tactic: without one of the rule's it would be lost."""
    shown = [tag for tactic in rule.tactics() for tag in rule.techniques_of(tactic)]
    lost = sorted(set(rule.techniques()) - set(shown))
    if lost:
        raise ValueError(f"{rule.file}: no tactic of the rule has {', '.join(lost)}")


def converter(backend, pipeline):
    """A function that converts the selection of a rule to one query."""
    made = backend(ProcessingPipeline.from_yaml((HERE / "pipelines" / pipeline).read_text()))

    def convert(rule):
        sigma = {key: value for key, value in rule.sigma.items() if key != "fields"}
        text = yaml.safe_dump(sigma, allow_unicode=True, sort_keys=False)
        (query,) = made.convert(SigmaCollection.from_yaml(text))
        return query

    return convert
