"""Detection rules for Elastic Security: Lucene, thresholds for counts, EQL for sequences."""

import json

from sigma.backends.elasticsearch import EqlBackend, ESQLBackend, LuceneBackend

from .rules import ATTACK, NotExpressible, converter, minutes

INDEX = "logs-atlassian_confluence.audit-*"
SCORES = {"informational": 10, "low": 21, "medium": 47, "high": 73, "critical": 99}
INTERVAL = 5 * 60
# Lists that Elasticsearch maps as `flattened`, which ES|QL does not read.
LISTS = ["affected_objects", "changed_values", "extra_attributes"]


def threat(rule):
    """Tactics with the techniques that belong to them, as Kibana has them."""
    found = []
    for tactic in rule.tactics():
        number, name = ATTACK["tactics"][tactic]
        techniques = {}
        for tag in rule.techniques_of(tactic):
            parent = tag.split(".")[0]
            one = techniques.setdefault(parent, entry(parent))
            if "." in tag:
                one.setdefault("subtechnique", []).append(entry(tag))
        address = f"https://attack.mitre.org/tactics/{number}/"
        tactic = {"id": number, "name": name, "reference": address}
        found.append({"framework": "MITRE ATT&CK", "tactic": tactic, "technique": list(techniques.values())})
    return found


def entry(tag):
    if tag not in ATTACK["techniques"]:
        raise KeyError(f"attack.yml does not name {tag}")
    number, path = tag.upper(), tag.upper().replace(".", "/")
    reference = f"https://attack.mitre.org/techniques/{path}/"
    return {"id": number, "name": ATTACK["techniques"][tag][0], "reference": reference}


def sequence(rule, eql):
    """The parts one after another. A correlation in it is a number of events."""
    steps = []
    for part in rule.parts:
        runs = ""
        if part.correlation:
            if part.kind != "event_count" or part.group != rule.group:
                raise NotExpressible("EQL has no such sequence")
            part, runs = part.parts[0], f" with runs={part.count}"
        steps.append(f"  [{eql(part)}]{runs}")
    return "\n".join([f"sequence by {', '.join(rule.group)} with maxspan={minutes(rule.seconds)}", *steps])


def detection_rules(rules):
    lucene, eql = converter(LuceneBackend, "ecs.yml"), converter(EqlBackend, "ecs.yml")
    for rule in rules:
        made = {
            "rule_id": rule.id,
            "name": rule.title,
            "description": rule.text,
            "author": [rule.author],
            "license": "Apache-2.0",
            "version": 1,
            "enabled": rule.is_enabled,
            "severity": "low" if rule.level == "informational" else rule.level,
            "risk_score": SCORES[rule.level],
            "index": [INDEX],
            "interval": minutes(INTERVAL),
            "from": f"now-{minutes(rule.seconds + INTERVAL if rule.correlation else 2 * INTERVAL)}",
            "to": "now",
            "tags": ["Confluence", "confluence-audit-agent", "Domain: Application"],
            "references": rule.references,
            "false_positives": rule.falsepositives,
            "threat": threat(rule),
            "note": f"## Tuning\n\n{rule.tuning}\n",
            "max_signals": 100,
        }
        if rule.kind == "event":
            # The time of arrival: an event that was delivered late is found, too.
            made |= {"type": "query", "language": "lucene", "query": lucene(rule)}
            made["timestamp_override"] = "event.ingested"
        elif rule.kind == "temporal_ordered":
            made |= {"type": "eql", "language": "eql", "query": sequence(rule, eql)}
        else:
            (part,) = rule.parts
            threshold = {"field": rule.group, "value": rule.count}
            if rule.kind == "value_count":
                values = rule.correlation["condition"]["field"]
                threshold |= {"value": 1, "cardinality": [{"field": values, "value": rule.count}]}
            made |= {"type": "threshold", "language": "lucene", "query": lucene(part), "threshold": threshold}
        yield rule, made


class TwoValued(ESQLBackend):
    """A comparison with a field that an event lacks is null in ES|QL, and so is its negation. The rules mean true."""

    def convert_condition_not(self, cond, state):
        (negated,) = cond.args
        return f"not coalesce({self.convert_condition(negated, state)}, false)"


def esql(rules):
    """Queries for hunting. ES|QL has no sequences."""
    convert = converter(TwoValued, "ecs.yml")
    for rule in rules:
        part = rule.parts[0] if rule.correlation else rule
        try:
            if rule.kind == "temporal_ordered":
                raise NotExpressible("ES|QL has no sequences")
            if any(f"confluence.audit.{name}" in json.dumps(part.detection) for name in LISTS):
                raise NotExpressible("ES|QL does not read flattened fields")
            query = convert(part).replace("from *", f"from {INDEX}", 1)
        except NotExpressible as reason:
            yield rule, reason
            continue
        if rule.correlation:
            what = "count()"
            if rule.kind == "value_count":
                what = f"count_distinct({rule.correlation['condition']['field']})"
            query += (
                f"\n| eval window = date_trunc({rule.seconds // 60} minutes, @timestamp)"
                f"\n| stats number = {what} by window, {', '.join(rule.group)}\n| where number >= {rule.count}"
            )
        yield rule, query
