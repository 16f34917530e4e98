"""Monitors of OpenSearch's alerting and rules of its security analytics."""

import yaml
from sigma.backends.opensearch import OpensearchLuceneBackend

from .rules import NotExpressible, converter, minutes

INDEX = "logs-atlassian_confluence.audit-*"
SEVERITY = {"critical": "1", "high": "2", "medium": "3", "low": "4", "informational": "5"}
PERIOD = 5 * 60
LOG_TYPE = "confluence_audit"


def search(query, window):
    return {"bool": {"filter": [window, {"query_string": {"query": query, "analyze_wildcard": True}}]}}


def arrival(window):
    """An index without the ingest pipeline has no times of arrival: there the time of the event decides."""
    missing = {"must_not": [{"exists": {"field": "event.ingested"}}], "filter": [{"range": {"@timestamp": window}}]}
    either = [{"range": {"event.ingested": window}}, {"bool": missing}]
    return {"bool": {"should": either, "minimum_should_match": 1}}


def event(rule, lucene):
    """Each period is searched once, by the time of arrival, and a minute late: then everything can be searched."""
    window = {"gte": "{{period_start}}||-1m", "lt": "{{period_end}}||-1m", "format": "epoch_millis"}
    query = {"size": 10, "query": search(lucene(rule), arrival(window))}
    return query, {"script": {"source": "ctx.results[0].hits.total.value > 0", "lang": "painless"}}


def counted(rule, lucene):
    """What is searched, what is counted in each group, and the condition of an alert."""
    if rule.kind == "event_count":
        return lucene(rule.parts[0]), {}, {"number": "_count"}, f"params.number >= {rule.count}"
    if rule.kind == "value_count":
        values = {"values": {"cardinality": {"field": rule.correlation["condition"]["field"]}}}
        return lucene(rule.parts[0]), values, {"number": "values"}, f"params.number >= {rule.count}"
    first, second = rule.parts
    # One event is before the second step if the earliest is. Of a burst, all must be.
    number, which = 1, "min"
    if first.correlation:
        if first.kind != "event_count" or first.group != rule.group:
            raise NotExpressible("a monitor has no such sequence")
        first, number, which = first.parts[0], first.count, "max"
    queries = [lucene(first), lucene(second)]
    steps = {}
    for name, query, kind in zip(["first", "second"], queries, [which, "max"]):
        steps[name] = {
            "filter": {"query_string": {"query": query, "analyze_wildcard": True}},
            "aggs": {"at": {kind: {"field": "@timestamp"}}},
        }
    paths = {"number": "first>_count", "first": "first>at", "second": "second>at"}
    condition = f"params.number >= {number} && params.first <= params.second"
    return " OR ".join(f"({query})" for query in queries), steps, paths, condition


def group(rule, lucene):
    query, values, paths, condition = counted(rule, lucene)
    sources = [{name: {"terms": {"field": name}}} for name in rule.group]
    composite = {"composite": {"size": 1000, "sources": sources}}
    if values:
        composite["aggs"] = values
    window = {
        "gte": "{{period_end}}||-" + minutes(rule.seconds + PERIOD),
        "lte": "{{period_end}}",
        "format": "epoch_millis",
    }
    query = {"size": 0, "query": search(query, {"range": {"@timestamp": window}}), "aggs": {"groups": composite}}
    script = {"source": condition, "lang": "painless"}
    return query, {"buckets_path": paths, "parent_bucket_path": "groups", "script": script}


def monitors(rules):
    lucene = converter(OpensearchLuceneBackend, "ecs.yml")
    for rule in rules:
        is_event = rule.kind == "event"
        query, condition = (event if is_event else group)(rule, lucene)
        trigger = {"name": rule.title, "severity": SEVERITY[rule.level], "condition": condition, "actions": []}
        yield rule, {
            "type": "monitor",
            "name": rule.title,
            "monitor_type": "query_level_monitor" if is_event else "bucket_level_monitor",
            "enabled": rule.is_enabled,
            "schedule": {"period": {"interval": PERIOD // 60, "unit": "MINUTES"}},
            "inputs": [{"search": {"indices": [INDEX], "query": query}}],
            "triggers": [{"query_level_trigger" if is_event else "bucket_level_trigger": trigger}],
        }


def analytics(rules):
    """Security analytics reads Sigma. It has no correlations of Sigma."""
    for rule in rules:
        if rule.correlation:
            yield rule, NotExpressible("security analytics has no correlations of Sigma")
            continue
        names = ["title", "id", "status", "description", "references", "author", "date", "tags"]
        made = {name: rule.sigma[name] for name in names if name in rule.sigma}
        made["date"] = rule.date.strftime("%Y/%m/%d")
        made["logsource"] = {"product": LOG_TYPE}
        made |= {name: rule.sigma[name] for name in ["detection", "falsepositives", "level"]}
        yield rule, yaml.safe_dump(made, allow_unicode=True, sort_keys=False, width=110)
