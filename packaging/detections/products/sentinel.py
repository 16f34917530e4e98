"""Analytic rules, hunting queries and an ARM template for Microsoft Sentinel."""

import dataclasses
import re
import uuid

from sigma.backends.kusto import KustoBackend

from .rules import ATTACK, NotExpressible, converter

TABLE = "ConfluenceAuditLogs_CL"
FREQUENCY = 15 * 60
FREQUENCY_MAX = 60 * 60
# How late an event may be. TimeGenerated is the time of the event, and a rule alerts on what has arrived since its
# last run.
LATENESS = 24 * 60 * 60
SEVERITY = {"informational": "Informational", "low": "Low", "medium": "Medium", "high": "High", "critical": "High"}
COLUMNS = {
    "user.id": "AuthorAccountId",
    "source.ip": "RemoteAddress",
    "user.full_name": "AuthorDisplayName",
    "source.geo.country_iso_code": "Country",
}
# The table has no place of an address.
EXTENDED = {"Country": "tostring(geo_info_from_ip_address(RemoteAddress).country)"}
SHOWN = "TimeGenerated, AuthorDisplayName, AuthorAccountId, RemoteAddress, Summary, Description, AffectedObjectName"


def duration(seconds):
    """As ISO 8601 without its `P`; Sentinel's own rules write `1h`, `15m`."""
    return f"{seconds // 3600}h" if seconds % 3600 == 0 else f"{-(-seconds // 60)}m"


def frequency(rule):
    return min(max(rule.seconds, FREQUENCY), FREQUENCY_MAX)


def condition(rule, kusto):
    """The `where` of a rule. The table has texts, not keys: a rule that knows a key alone finds nothing."""
    if "condition_of_texts" in rule.sigma:
        detection = rule.detection | {"condition": rule.condition_of_texts}
        rule = dataclasses.replace(rule, sigma=rule.sigma | {"detection": detection})
    # The backend compares truth values as it does texts.
    query = re.sub(r"=~ (true|false)", r"== \1", kusto(rule))
    query = re.sub(r"in~ \(([^)]*)\)", lambda found: f"in~ ({', '.join(dict.fromkeys(found[1].split(', ')))})", query)
    missing = re.search(r"'([a-z_.A-Z0-9]+)' (?:=~|in~|contains|startswith|endswith|has)", query)
    if missing:
        raise NotExpressible(f"the table has no column for {missing[1]}")
    compared = re.findall(r'Summary (?:in~ \(([^)]*)\)|(?:=~|contains|startswith) ("[^"]*"))', query)
    texts = re.findall(r'"([^"]*)"', " ".join("".join(pair) for pair in compared))
    is_key = re.compile(r"(?:[a-z]+\.){2,}[a-z.]+$")
    if texts and all(is_key.match(text) and not text.startswith("agent.") for text in texts):
        raise NotExpressible("the table has no keys, and the text of the action is not published")
    if texts and all(text.startswith("agent.") for text in texts):
        return f'Category == "confluence-audit-agent" and {query}'
    return query


def is_login(rule):
    return all(map(is_login, rule.parts)) if rule.parts else rule.file.startswith("confluence_login_")


def column(rule, name):
    # The author of a failed login is anonymous. The user is the affected object.
    if is_login(rule) and name.startswith("user."):
        return "AffectedObjectName"
    if name not in COLUMNS:
        raise NotExpressible(f"the table has no column for {name}")
    return COLUMNS[name]


def arrived(rule, when):
    return f"{when} > ago({duration(frequency(rule))})"


def query(rule, kusto):
    if rule.kind == "event":
        late = arrived(rule, "ingestion_time()")
        return f"{TABLE}\n| where {late}\n| where {condition(rule, kusto)}\n| project {SHOWN}"
    by = ", ".join(column(rule, name) for name in rule.group)
    if rule.kind == "temporal_ordered":
        return ordered(rule, by, kusto)
    (part,) = rule.parts
    lines = [TABLE, f"| where {condition(part, kusto)}", "| extend Arrived = ingestion_time()"]
    what = "count()"
    if rule.kind == "value_count":
        values = column(rule, rule.correlation["condition"]["field"])
        what = f"dcount({values})"
        if values in EXTENDED:
            lines.append(f"| extend {values} = {EXTENDED[values]}")
        # What an event does not have is an empty text, and would be counted.
        lines.append(f"| where isnotempty({values})")
    kept = [name for name in ["AuthorDisplayName", "RemoteAddress"] if name not in by]
    taken = "".join(f", {name} = take_any({name})" for name in kept)
    lines += [
        f"| where isnotempty({by.split(', ')[0]})",
        windows(rule),
        f"| summarize Number = {what}, First = min(TimeGenerated), TimeGenerated = max(TimeGenerated), "
        f"Arrived = max(Arrived){taken} by {by}, Window",
        f"| where Number >= {rule.count} and {arrived(rule, 'Arrived')}",
        f"| summarize arg_max(Number, *) by {by}",
        "| project-away Window",
    ]
    return "\n".join(lines)


def windows(rule):
    """Each event is in two windows that overlap by half, so that a burst is not divided."""
    half = f"{rule.seconds // 2}s"
    both = f"pack_array(bin(TimeGenerated, {half}), bin(TimeGenerated, {half}) - {half})"
    return f"| mv-expand Window = {both} to typeof(datetime)"


def ordered(rule, by, kusto):
    first, second = rule.parts
    span = duration(rule.seconds - first.seconds)
    begin = f"{TABLE}\n    | where {{}}\n    | where isnotempty({by})"
    if first.correlation:
        if first.kind != "event_count" or first.group != rule.group:
            raise NotExpressible("there is no such sequence")
        before = begin.format(condition(first.parts[0], kusto)) + (
            f"\n    {windows(first)}"
            # The burst is complete with the event that reaches the count, not with the first.
            f"\n    | summarize Times = array_sort_asc(make_list(TimeGenerated)), FirstArrived = max(ingestion_time())"
            f" by {by}, Window"
            f"\n    | where array_length(Times) >= {first.count}"
            f"\n    | extend First = todatetime(Times[{first.count - 1}])"
        )
    else:
        before = begin.format(condition(first, kusto))
        before += f"\n    | project First = TimeGenerated, FirstArrived = ingestion_time(), {by}"
    shown = [name for name in ["AuthorDisplayName", "RemoteAddress", "Summary", "AffectedObjectName"] if name != by]
    return (
        f"let Before = {before};\n{TABLE}\n| where {condition(second, kusto)}"
        "\n| extend Arrived = ingestion_time()"
        f"\n| join kind=inner Before on {by}"
        f"\n| where {arrived(rule, 'max_of(Arrived, FirstArrived)')}"
        f"\n| where TimeGenerated between (First .. (First + {span}))"
        f"\n| summarize arg_max(TimeGenerated, First, {', '.join(shown)}) by {by}"
    )


def entities(rule):
    """Who did it, and from where. What is counted for each address has no single user."""
    made = [{"entityType": "IP", "fieldMappings": [{"identifier": "Address", "columnName": "RemoteAddress"}]}]
    if not rule.correlation or rule.group != ["source.ip"]:
        name = "AffectedObjectName" if is_login(rule) else "AuthorDisplayName"
        account = [{"identifier": "FullName", "columnName": name}]
        made.insert(0, {"entityType": "Account", "fieldMappings": account})
    return made


def tactics(rule):
    return [ATTACK["tactics"][tactic][1].replace(" ", "") for tactic in rule.tactics()]


def analytic_rules(rules):
    """In the schema of Microsoft's repository of Sentinel content."""
    kusto = converter(KustoBackend, "sentinel.yml")
    for rule in rules:
        try:
            text = query(rule, kusto)
        except NotExpressible as reason:
            yield rule, reason
            continue
        yield rule, {
            "id": rule.id,
            "name": rule.title,
            "version": "1.0.0",
            "kind": "Scheduled",
            "description": rule.text,
            "severity": SEVERITY[rule.level],
            "status": "Available",
            "requiredDataConnectors": [],
            "queryFrequency": duration(frequency(rule)),
            "queryPeriod": duration(LATENESS),
            "triggerOperator": "gt",
            "triggerThreshold": 0,
            "tactics": tactics(rule),
            "relevantTechniques": list(dict.fromkeys(tag.upper().split(".")[0] for tag in rule.techniques())),
            "query": text + "\n",
            "entityMappings": entities(rule),
            "eventGroupingSettings": {"aggregationKind": "AlertPerResult"},
            "incidentConfiguration": incidents("5h"),
        }


def incidents(lookback):
    """The windows of correlations overlap: alerts with the same entities are one incident."""
    return {
        "createIncident": True,
        "groupingConfiguration": {
            "enabled": True,
            "reopenClosedIncident": False,
            "lookbackDuration": lookback,
            "matchingMethod": "AllEntities",
        },
    }


def hunting_query(made):
    """What an alert is too much for. Whoever hunts selects the time."""
    names = ["id", "name", "description", "requiredDataConnectors", "tactics", "relevantTechniques", "query"]
    found = {name: made[name] for name in names} | {"entityMappings": made["entityMappings"], "version": "1.0.0"}
    found["id"] = str(uuid.uuid5(uuid.UUID(made["id"]), "hunting query"))
    found["query"] = re.sub(r"\| where ingestion_time\(\) > .*\n", "", made["query"])
    return found


def saved_search(hunting):
    """A hunting query in a template."""
    tags = {
        "description": hunting["description"],
        "tactics": ",".join(hunting["tactics"]),
        "techniques": ",".join(hunting["relevantTechniques"]),
    }
    return {
        "type": "Microsoft.OperationalInsights/workspaces/savedSearches",
        "apiVersion": "2020-08-01",
        "name": f"[concat(parameters('workspace'), '/{hunting['id']}')]",
        "properties": {
            "category": "Hunting Queries",
            "displayName": hunting["name"],
            "query": hunting["query"],
            "version": 2,
            "tags": [{"name": name, "value": value} for name, value in tags.items()],
        },
    }


def template(analytic, hunting):
    """The rules and hunting queries for `az deployment group create`."""
    resources = [saved_search(query) for query in hunting]
    for made in analytic:
        properties = {
            "displayName": made["name"],
            "enabled": True,
            "suppressionEnabled": False,
            "suppressionDuration": "PT5H",
        }
        for name in ["description", "severity", "query", "triggerThreshold", "tactics", "entityMappings"]:
            properties[name] = made[name]
        properties |= {
            "techniques": made["relevantTechniques"],
            "queryFrequency": "PT" + made["queryFrequency"].upper(),
            "queryPeriod": "PT" + made["queryPeriod"].upper(),
            "triggerOperator": "GreaterThan",
            "eventGroupingSettings": made["eventGroupingSettings"],
            "incidentConfiguration": incidents("PT5H"),
        }
        resources.append(
            {
                "type": "Microsoft.OperationalInsights/workspaces/providers/alertRules",
                "apiVersion": "2023-11-01",
                "name": f"[concat(parameters('workspace'), '/Microsoft.SecurityInsights/{made['id']}')]",
                "kind": made["kind"],
                "properties": properties,
            }
        )
    return {
        "$schema": "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#",
        "contentVersion": "1.0.0.0",
        "parameters": {"workspace": {"type": "string", "metadata": {"description": "The Log Analytics workspace"}}},
        "resources": resources,
    }
