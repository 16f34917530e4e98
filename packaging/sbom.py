#!/usr/bin/env python3
"""Writes a CycloneDX bill of materials of the shipped binary: sbom.py VERSION TARGET.

Its components are the crates that cargo links into the binary on that target; what only builds or tests it is left out.
"""

import json
import os
import subprocess
import sys
import time


def purl(package):
    return f"pkg:cargo/{package['name']}@{package['version']}"


def linked(metadata):
    """Ids of all packages that are reached from the root by ordinary dependencies, and each one's own dependencies."""
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    found, todo = {}, [metadata["resolve"]["root"]]
    while todo:
        here = todo.pop()
        if here in found:
            continue
        deps = nodes[here]["deps"]
        found[here] = [d["pkg"] for d in deps if any(kind["kind"] is None for kind in d["dep_kinds"])]
        todo.extend(found[here])
    return found


def checksums():
    """SHA-256 of each crate as Cargo.lock has it."""
    out, name, version = {}, None, None
    with open("Cargo.lock", encoding="utf-8") as lock:
        for line in lock:
            key, _, value = line.strip().partition(" = ")
            value = value.strip('"')
            if key == "name":
                name = value
            elif key == "version":
                version = value
            elif key == "checksum":
                out[(name, version)] = value
    return out


def component(package, sums):
    out = {
        "type": "library",
        "bom-ref": purl(package),
        "name": package["name"],
        "version": package["version"],
        "purl": purl(package),
    }
    if package["license"]:
        out["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
    if (package["name"], package["version"]) in sums:
        out["hashes"] = [{"alg": "SHA-256", "content": sums[(package["name"], package["version"])]}]
    return out


def main():
    version, target = sys.argv[1:]
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", target]
    metadata = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    packages = {package["id"]: package for package in metadata["packages"]}
    found, sums, root = linked(metadata), checksums(), metadata["resolve"]["root"]
    packages[root]["version"] = version
    made = time.gmtime(int(os.environ["SOURCE_DATE_EPOCH"]))
    own = component(packages[root], sums) | {"type": "application"}
    by_purl = sorted(found, key=lambda id: purl(packages[id]))
    json.dump(
        {
            "bomFormat": "CycloneDX",
            "specVersion": "1.5",
            "version": 1,
            "metadata": {"timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", made), "component": own},
            "components": [component(packages[id], sums) for id in by_purl if id != root],
            "dependencies": [
                {"ref": purl(packages[id]), "dependsOn": sorted(purl(packages[dep]) for dep in found[id])}
                for id in by_purl
            ],
        },
        sys.stdout,
        indent=1,
    )
    print()


main()
