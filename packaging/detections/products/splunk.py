"""Saved searches of Splunk."""

import re

from sigma.backends.splunk import SplunkBackend

from .rules import NotExpressible, converter

SEVERITY = {"informational": 1, "low": 2, "medium": 3, "high": 4, "critical": 5}
PERIOD = 5 * 60
# A macro, because the index is the operator's.
INDEX = "`confluence_audit_index`"
MACROS = """# The index that the sink writes to. Name it in local/macros.conf, which an upgrade keeps.
[confluence_audit_index]
definition = (index=*)
"""
# The searches choose by the time of indexing. Events that are older than this when they arrive are not searched.
OLDEST = "-30d"


def search(rule, convert_bare):
    def convert(part):
        return f"{INDEX} {convert_bare(part)}"

    if rule.kind == "event":
        shown = " ".join(f'"{name}"' for name in ["_time", "user.full_name", "source.ip", "event.action", "message"])
        return f"{convert(rule)} | table {shown}"
    by = " ".join(f'"{name}"' for name in rule.group)
    if rule.kind == "temporal_ordered":
        return ordered(rule, by, convert)
    what = "count" if rule.kind == "event_count" else f'dc("{rule.correlation["condition"]["field"]}")'
    # What was delivered late arrives at once, so the time span is counted by the time of the events.
    return (
        f"{convert(rule.parts[0])} | sort 0 _time | streamstats time_window={rule.seconds}s {what} AS number BY {by} "
        f"| where number>={rule.count} | stats max(number) AS number, max(_time) AS _time BY {by}"
    )


def ordered(rule, by, convert):
    """The second step at most the time span after the first is complete, be it one event or a number of them."""
    first, second = rule.parts
    span, burst, complete = rule.seconds - first.seconds, "", "step==1"
    if first.correlation:
        if first.kind != "event_count" or first.group != rule.group:
            raise NotExpressible("Splunk's search has no such sequence")
        burst = f"| streamstats time_window={first.seconds}s count(eval(step==1)) AS number BY {by} "
        complete += f" AND number>={first.count}"
        first = first.parts[0]
    return (
        f"| multisearch [search {convert(first)} | eval step=1] [search {convert(second)} | eval step=2] "
        f"| sort 0 _time {burst}| eval complete=if({complete},_time,null()) "
        f"| streamstats max(complete) AS first BY {by} | where step==2 AND _time-first<={span} "
        f"| stats max(_time) AS _time, max(first) AS first BY {by}"
    )


def suppression(rule):
    """The windows of correlations overlap: one alert for each group while a burst is in them."""
    if not rule.correlation:
        return ["alert.suppress = 0"]
    fields = ",".join(rule.group)
    return [
        "alert.digest_mode = 0",
        "alert.suppress = 1",
        f"alert.suppress.fields = {fields}",
        f"alert.suppress.period = {rule.seconds + PERIOD}s",
    ]


def saved_searches(rules):
    """A window is one of the time of indexing, so a late event is found. It ends a minute ago: then everything in it
    can be searched."""
    convert = converter(SplunkBackend, "splunk.yml")
    for rule in rules:
        query = re.sub(r"\s+", " ", search(rule, convert))
        window = rule.seconds + PERIOD
        yield rule, "\n".join(
            [
                f"[{rule.title}]",
                f"description = {rule.text}",
                f"search = {query}",
                "enableSched = 1",
                f"disabled = {0 if rule.is_enabled else 1}",
                f"cron_schedule = */{PERIOD // 60} * * * *",
                f"dispatch.earliest_time = {OLDEST}",
                "dispatch.latest_time = +1d",
                f"dispatch.index_earliest = -{window + 60}s",
                "dispatch.index_latest = -60s",
                "counttype = number of events",
                "relation = greater than",
                "quantity = 0",
                f"alert.severity = {SEVERITY[rule.level]}",
                "alert.track = 1",
                *suppression(rule),
                "",
            ]
        )
