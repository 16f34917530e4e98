#!/usr/bin/env python3
"""Makes the detections of all products of the Sigma rules:

    packaging/detections/build.py DIR

Needs the packages in requirements.txt. The same rules give the same bytes. A rule that a product cannot run is left
out there, and `coverage.json` says why.
"""

import json
import pathlib
import shutil
import sys

import yaml

sys.dont_write_bytecode = True
from products import elastic, opensearch, rules, sentinel, splunk


class Dumper(yaml.SafeDumper):
    """Texts of several lines as blocks, lists indented."""

    def increase_indent(self, flow=False, indentless=False):
        return super().increase_indent(flow, False)

    def ignore_aliases(self, data):
        return True


def text(dumper, value):
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


Dumper.add_representer(str, text)


def dump(value):
    return yaml.dump(value, Dumper=Dumper, allow_unicode=True, sort_keys=False, width=110)


def lines(values):
    return "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values)


class Output:
    """The directory, and which rule each product has."""

    def __init__(self, directory, found):
        self.directory = directory
        self.coverage = {rule.file: {} for rule in found}

    def write(self, name, content):
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)

    def take(self, product, made):
        """What a product has, by rule."""
        kept = []
        for rule, value in made:
            is_missing = isinstance(value, rules.NotExpressible)
            self.coverage[rule.file][product] = str(value) if is_missing else True
            if not is_missing:
                kept.append((rule, value))
        return kept


def main():
    directory = pathlib.Path(sys.argv[1])
    shutil.rmtree(directory, ignore_errors=True)
    found = rules.load()
    out = Output(directory, found)

    kept = out.take("elastic", elastic.detection_rules(found))
    out.write("elastic/rules.ndjson", lines(value for _, value in kept))
    for rule, value in out.take("esql", elastic.esql(found)):
        out.write(f"elastic/hunting/{rule.file}.esql", f"// {rule.title}\n{value}\n")

    kept = out.take("opensearch", opensearch.monitors(found))
    out.write("opensearch/monitors.ndjson", lines(value for _, value in kept))
    for rule, value in out.take("security-analytics", opensearch.analytics(found)):
        out.write(f"opensearch/security-analytics/{rule.file}.yml", value)

    kept = out.take("splunk", splunk.saved_searches(found))
    out.write("splunk/savedsearches.conf", "\n".join(value for _, value in kept))
    out.write("splunk/macros.conf", splunk.MACROS)

    kept = out.take("sentinel", sentinel.analytic_rules(found))
    hunting = []
    for rule, value in kept:
        is_hunt = rule.level in ["informational", "low"]
        out.write(f"sentinel/analytic-rules/{rule.file}.yaml", dump(value))
        if is_hunt:
            hunting.append(sentinel.hunting_query(value))
            out.write(f"sentinel/hunting-queries/{rule.file}.yaml", dump(hunting[-1]))
    template = sentinel.template([value for rule, value in kept if rule.is_enabled], hunting)
    out.write("sentinel/azuredeploy.json", json.dumps(template, ensure_ascii=False, indent=2) + "\n")

    out.write("coverage.json", json.dumps(out.coverage, ensure_ascii=False, indent=1) + "\n")
    for product in ["elastic", "esql", "opensearch", "security-analytics", "splunk", "sentinel"]:
        count = sum(one[product] is True for one in out.coverage.values())
        print(f"{product}: {count} of {len(found)} rules")


main()
