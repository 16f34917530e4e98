"""Saved searches of Splunk."""

import re

from sigma.backends.splunk import SplunkBackend

from .rules import NotExpressible, converter

SEVERITY = {"informational": 1, "low": 2, "medium": 3, "high": 4, "critical": 5}
PERIOD = 5 * 60


def search(rule, convert):
    if rule.kind == "event":
        shown = " ".join(f'"{name}"' for name in ["_time", "user.full_name", "source.ip", "event.action", "message"])
        return f"{convert(rule)} | table {shown}"
    by = " ".join(f'"{name}"' for name in rule.group)
    if rule.kind == "temporal_ordered":
        first, second = rule.parts
        number = 1
        if first.correlation:
            if first.kind != "event_count" or first.group != rule.group:
                raise NotExpressible("Splunk's search has no such sequence")
            first, number = first.parts[0], first.count
        return (
            f"| multisearch [search {convert(first)} | eval step=1] [search {convert(second)} | eval step=2] "
            "| stats count(eval(step==1)) AS number, min(eval(if(step==1,_time,null()))) AS first, "
            f"max(eval(if(step==2,_time,null()))) AS second BY {by} "
            f"| where number>={number} AND first<=second"
        )
    what = "count" if rule.kind == "event_count" else f'dc("{rule.correlation["condition"]["field"]}")'
    return f"{convert(rule.parts[0])} | stats {what} AS number BY {by} | where number>={rule.count}"


def suppression(rule):
    """The windows of correlations overlap: one alert for each group and time span."""
    if not rule.correlation:
        return ["alert.suppress = 0"]
    fields = ",".join(rule.group)
    return [
        "alert.digest_mode = 0",
        "alert.suppress = 1",
        f"alert.suppress.fields = {fields}",
        f"alert.suppress.period = {rule.seconds}s",
    ]


def saved_searches(rules):
    """A window ends a minute ago: then everything is indexed."""
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
                f"cron_schedule = */{PERIOD // 60} * * * *",
                f"dispatch.earliest_time = -{window + 60}s",
                "dispatch.latest_time = -60s",
                "counttype = number of events",
                "relation = greater than",
                "quantity = 0",
                f"alert.severity = {SEVERITY[rule.level]}",
                "alert.track = 1",
                *suppression(rule),
                "",
            ]
        )
