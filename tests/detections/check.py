"""Checks the detection rules of packaging/detections, and runs them over events of the agent.

    check.py rules [DETECTIONS]     rules, samples and fields; prints the number of rules
    check.py match EVENTS FORMAT    EVENTS/RULE/{match,miss}-*.jsonl, which the agent wrote in this format
    check.py sentinel EVENTS DIR    the same for the table of Sentinel and the analytic rules that build.py made
    check.py analytics DIR          the same rules for OpenSearch's security analytics, which build.py made
    check.py lucene                 prints the Lucene query of each rule that is no correlation, as JSON

Queries run in SQLite. A field can have several values there, as in Elasticsearch: a condition holds if one value does.
"""

import json
import re
import sqlite3
import sys
from pathlib import Path

import yaml
from sigma.backends.opensearch import OpensearchLuceneBackend
from sigma.backends.sqlite import sqliteBackend
from sigma.collection import SigmaCollection
from sigma.correlations import SigmaCorrelationRule
from sigma.plugins import InstalledSigmaPlugins
from sigma.processing.pipeline import ProcessingPipeline
from sigma.validation import SigmaValidator

sys.dont_write_bytecode = True
from kusto import Condition

ROOT = Path(__file__).resolve().parents[2]
DETECTIONS = ROOT / "packaging/detections"
# The tactics that are in use.
TACTICS = {
    "collection",
    "credential-access",
    "defense-evasion",
    "discovery",
    "exfiltration",
    "impact",
    "initial-access",
    "persistence",
    "privilege-escalation",
}
# The first two load all of ATT&CK and D3FEND from the Internet. `user.id` is a text, also if it is `-1`.
VALIDATORS_LEFT_OUT = {"attacktag", "d3_fendtag", "number_as_string"}
COVERAGE = {"none", "base", "advanced", "full", "cloud"}
LEVELS = {"low", "medium", "high", "critical"}


class ValuesBackend(sqliteBackend):
    """Compares each value of a field: they are rows of their own."""

    def convert_condition_field_eq_val(self, cond, state):
        field, cond.field = cond.field, "value"
        condition = super().convert_condition_field_eq_val(cond, state)
        cond.field = field
        return f"EXISTS (SELECT 1 FROM cells WHERE event = logs.rowid AND field = '{field}' AND {condition})"


def files(folder):
    return sorted((DETECTIONS / "sigma" / folder).glob("*.yml"))


def alerting():
    """The rules that give alerts: name of the file without extension, and the file."""
    return {file.stem: file for file in files("") + files("correlations")}


def collection():
    """All rules by the name of their file, in an order in which a correlation comes after the rules it counts."""
    every = files("") + files("base") + files("correlations")
    every = [(file.stem, yaml.safe_load(file.read_text("utf-8"))) for file in every]
    stems = {rule["id"]: stem for stem, rule in every}
    return {stems[str(rule.id)]: rule for rule in SigmaCollection.from_dicts([rule for _, rule in every]).rules}


def pipeline(name):
    return ProcessingPipeline.from_yaml((DETECTIONS / "pipelines" / f"{name}.yml").read_text("utf-8"))


def queries(backend, correlations=True, rules=None):
    """The query of each rule that gives alerts."""
    found = {}
    for name, rule in (rules or collection()).items():
        if not isinstance(rule, SigmaCorrelationRule):
            found[name] = backend.convert_rule(rule)
        elif correlations:
            rule._output = True
            found[name] = backend.convert_correlation_rule(rule)
    found = {name: query for name, query in found.items() if name in alerting()}
    assert all(len(query) == 1 for query in found.values()), "a rule has one query"
    return {name: query[0] for name, query in found.items()}


def flat(value, path=""):
    """Yields the names and values of a JSON value. Elements of a list have the list's name."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from flat(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for inner in value:
            yield from flat(inner, path)
    else:
        yield path, json.dumps(value) if isinstance(value, bool) else value


def time_of(event):
    return event.get("@timestamp") or event.get("agent", {}).get("time")


class Events:
    """A database of events."""

    def __init__(self, events, columns):
        self.db = sqlite3.connect(":memory:")
        self.db.execute("CREATE TABLE cells (event INTEGER, field TEXT, value)")
        names = ["timestamp", *columns]
        self.db.execute(f"CREATE TABLE logs ({', '.join(f'`{name}`' for name in names)})")
        for number, event in enumerate(events, 1):
            cells = list(flat(event))
            first = dict(reversed(cells))
            row = [time_of(event), *(first.get(name) for name in columns)]
            self.db.execute(f"INSERT INTO logs VALUES ({', '.join('?' * len(row))})", row)
            self.db.executemany("INSERT INTO cells VALUES (?, ?, ?)", [(number, *cell) for cell in cells])
        self.db.execute("CREATE INDEX by_event ON cells (event, field)")

    def count(self, query):
        return len(self.db.execute(query).fetchall())


def group_fields():
    rules = [rule for rule in collection().values() if isinstance(rule, SigmaCorrelationRule)]
    fields = {field for rule in rules for field in rule.group_by}
    return sorted(fields | {rule.condition.fieldref for rule in rules if getattr(rule.condition, "fieldref", None)})


def read(file):
    # `splitlines` would also split at U+2028 in a text.
    return [json.loads(line) for line in file.read_text("utf-8").split("\n") if line]


def match(folder, format):
    """Each rule finds all events of a match, or has one alert for it if it is a correlation; and nothing in a miss."""
    rules, checked, faults = collection(), 0, []
    columns = group_fields()
    # The format raw has several members for one field. Correlations cannot group by those.
    for name, query in queries(ValuesBackend(pipeline(format)), correlations=format != "raw").items():
        is_correlation = isinstance(rules[name], SigmaCorrelationRule)
        for file in sorted((folder / name).glob("*.jsonl")):
            events = read(file)
            found = Events(events, columns).count(query)
            least = 0 if file.stem.startswith("miss-") else 1 if is_correlation else len(events)
            if found < least or (found and not least) or not events:
                faults.append(f"{name}: {found} alerts for {len(events)} events of {file.name} in {format}")
            checked += 1
    return checked, faults


def columns_of(record):
    """The columns that Microsoft's rule fills from a record."""
    found = {}
    for line in (ROOT / "fixtures/sentinel/columns.txt").read_text("utf-8").splitlines():
        if line.startswith("#") or not line:
            continue
        name, kind, path = line.split(" ", 2)
        value = record
        for part in path.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if value is not None:
            # The query language compares lists as JSON text.
            is_dynamic = kind == "dynamic"
            found[name] = json.dumps(value, ensure_ascii=False, separators=(",", ":")) if is_dynamic else value
    return found | {"@timestamp": record["creationDate"]}


def sentinel(folder, made):
    """Each analytic rule finds all events of a match, and nothing in a miss. The table has no keys: texts in other
    languages are not found, nor what keys alone tell."""
    checked, faults = 0, []
    for file in sorted((made / "analytic-rules").glob("*.yaml")):
        name, query = file.stem, yaml.safe_load(file.read_text("utf-8"))["query"]
        if isinstance(collection()[name], SigmaCorrelationRule):
            continue
        _, arrival, condition, shown = query.strip().split("\n")
        assert arrival.startswith("| where ingestion_time()") and shown.startswith("| project "), query
        condition = Condition(condition.removeprefix("| where "))
        for file in sorted((folder / name).glob("*.jsonl")):
            if file.stem in ["match-languages", "match-keys"]:
                continue
            events = [columns_of(record) for record in read(file)]
            found = sum(condition.holds(event) for event in events)
            if found != (len(events) if file.stem.startswith("match-") else 0):
                faults.append(f"{name}: {found} alerts for {len(events)} events of {file.name} in Sentinel")
            checked += 1
    return checked, faults


def fields_of(rule):
    """The fields that a rule compares, groups by or shows."""
    found = set(rule.fields or [])
    if isinstance(rule, SigmaCorrelationRule):
        found |= set(rule.group_by)
        found |= {rule.condition.fieldref} if getattr(rule.condition, "fieldref", None) else set()
        return found

    def walk(item):
        if hasattr(item, "field") and item.field:
            found.add(item.field)
        for inner in getattr(item, "detection_items", []):
            walk(inner)

    for detection in rule.detection.detections.values():
        walk(detection)
    return found


def values_without_sample(rule, folder):
    """The values that no sample has: those of a filter must be in a miss, all others in a match."""
    texts = {
        kind: "".join(file.read_text("utf-8") for file in folder.glob(f"{kind}-*.jsonl")) for kind in ["match", "miss"]
    }
    for name, detection in rule.to_dict()["detection"].items():
        if name == "condition":
            continue
        kind = "miss" if name.startswith("filter") else "match"
        for _, value in flat(detection):
            if isinstance(value, str) and value not in texts[kind]:
                yield f"{value} of {name} is in no sample that begins with {kind}-"


def is_mapped(field, template, text):
    """Whether the index template has the field, and docs/MAPPING.md or docs/OPERATIONS.md names it."""
    node, parts = template, field.split(".")
    for depth, part in enumerate(parts):
        if node.get("type") == "flattened":
            # A list that is mapped unchanged. Its members are not in the template.
            field = ".".join(parts[:depth])
            break
        node = node.get("properties", {}).get(part)
        if node is None:
            return False
    short = field.removeprefix("confluence.audit.").removeprefix("agent.")
    parent, _, last = short.rpartition(".")
    names = set(re.findall(r"`([^`\n]+)`", text))

    def is_named(name):
        return any(each in names for each in [name, f"{name}.*", f"confluence.audit.{name}", f".{name}"])

    return is_named(short) or (is_named(last) and (is_named(parent) or is_named(parent.split(".")[0])))


def rules():
    """Faults of the rules themselves, of their samples and of the fields they name."""
    faults, every = [], collection()
    plugins = InstalledSigmaPlugins.autodiscover()
    validators = {name: each for name, each in plugins.validators.items() if name not in VALIDATORS_LEFT_OUT}
    for issue in SigmaValidator(set(validators.values())).validate_rules(iter(every.values())):
        faults.append(str(issue))
    template = ROOT / "packaging/elasticsearch/index-template.elasticsearch.json"
    template = json.loads(template.read_text("utf-8"))["template"]["mappings"]
    text = "".join((ROOT / "docs" / name).read_text("utf-8") for name in ["MAPPING.md", "OPERATIONS.md"])
    table = (ROOT / "docs/DETECTIONS.md").read_text("utf-8")
    for name, rule in every.items():
        for field in fields_of(rule):
            if not is_mapped(field, template, text):
                faults.append(f"{name}: the field {field} is not in docs/MAPPING.md and the index template")
        for tag in rule.tags:
            is_technique = re.fullmatch(r"t\d{4}(\.\d{3})?", tag.name)
            if tag.namespace != "attack" or not (tag.name in TACTICS or is_technique):
                faults.append(f"{name}: the tag {tag} is no tactic or technique")
        if name not in alerting():
            continue
        custom = rule.custom_attributes
        if custom.get("coverage") not in COVERAGE or not custom.get("tuning") or not rule.references:
            faults.append(f"{name}: coverage, tuning or references are missing")
        if str(rule.level) not in LEVELS or not rule.falsepositives or not rule.tags:
            faults.append(f"{name}: level, false positives or tags are missing")
        row = f"| `{name}` | {rule.level} | {custom.get('coverage')} |"
        if row not in table:
            faults.append(f"{name}: docs/DETECTIONS.md has no row that begins with {row}")
        samples = [file.stem for file in (DETECTIONS / "samples" / name).glob("*.jsonl")]
        for kind in ["match-", "miss-"]:
            if not any(sample.startswith(kind) for sample in samples):
                faults.append(f"{name}: no sample whose name begins with {kind}")
        if custom.get("coverage") in {"base", "advanced", "full"} and "match-languages" not in samples:
            faults.append(f"{name}: no sample match-languages")
        if not isinstance(rule, SigmaCorrelationRule):
            missing = values_without_sample(rule, DETECTIONS / "samples" / name)
            faults += [f"{name}: {fault}" for fault in missing]
        if any(not sample.startswith(("match-", "miss-")) for sample in samples):
            faults.append(f"{name}: a sample is neither match nor miss")
    for folder in (DETECTIONS / "samples").iterdir():
        if folder.name not in alerting():
            faults.append(f"samples/{folder.name} is of no rule")
    return len(alerting()), faults


def analytics(folder):
    """Security analytics refuses a rule without one of these members, and one that it cannot parse."""
    faults, sources = [], {str(rule.id): rule for rule in collection().values()}
    files = sorted(folder.glob("*.yml"))
    for file in files:
        made = yaml.safe_load(file.read_text("utf-8"))
        names = ["id", "title", "description", "level", "status", "author", "date", "logsource", "detection", "tags"]
        missing = [name for name in names if not made.get(name)]
        if missing or not re.fullmatch(r"\d{4}/\d\d/\d\d", str(made["date"])):
            faults.append(f"{file.name}: without {missing}, or the date {made['date']} is not written with `/`")
            continue
        (rule,) = SigmaCollection.from_dicts([made]).rules
        backend = OpensearchLuceneBackend()
        if backend.convert_rule(rule) != backend.convert_rule(sources[made["id"]]):
            faults.append(f"{file.name}: it is not the rule of this id")
    return len(files), faults


def main():
    global DETECTIONS
    command, *arguments = sys.argv[1:]
    if command == "rules" and arguments:
        DETECTIONS = Path(arguments[0])
    if command == "lucene":
        print(json.dumps(queries(OpensearchLuceneBackend(pipeline("ecs")), correlations=False)))
        return
    if command == "rules":
        count, faults = rules()
    elif command == "analytics":
        count, faults = analytics(Path(arguments[0]))
    elif command == "sentinel":
        count, faults = sentinel(Path(arguments[0]), Path(arguments[1]))
    else:
        count, faults = match(Path(arguments[0]), arguments[1])
    print("\n".join(faults) or f"{count} right")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
