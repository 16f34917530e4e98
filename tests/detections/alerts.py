"""Prints the alerts of each rule over a file of events in the format ecs, as JSON: their number by day.

    alerts.py FILE [SECONDS]

Products count over a time span that is longer than a correlation says, so that no burst falls between two searches.
SECONDS are added to it.
"""

import json
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

sys.dont_write_bytecode = True
import check
from sigma.correlations import SigmaCorrelationRule


def days(events, query, seconds):
    """The day of each alert. What follows in the same group within the time span is the same alert."""
    events.db.row_factory = check.sqlite3.Row
    rows = events.db.execute(query).fetchall()
    if not seconds:
        return [row["timestamp"][:10] for row in rows]
    found, latest = [], {}
    for row in sorted(rows, key=lambda row: row["occurrence_time"]):
        group, at = row["group_keys"], row["occurrence_time"]
        if at - latest.get(group, float("-inf")) > seconds:
            found.append(datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d"))
        latest[group] = at
    return found


def main():
    events = check.Events(check.read(Path(sys.argv[1])), check.group_fields())
    longer = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    rules = check.collection()
    spans = {}
    for name, rule in rules.items():
        if isinstance(rule, SigmaCorrelationRule):
            rule.timespan.seconds += longer
            spans[name] = rule.timespan.seconds
    queries = check.queries(check.ValuesBackend(check.pipeline("ecs")), rules=rules)
    found = {name: Counter(days(events, query, spans.get(name))) for name, query in queries.items()}
    print(json.dumps(found))


main()
