"""Validates OCSF events, one a line, against the schema that the package `ocsf-json-schema` carries.

    validate.py VERSION FILE

Prints `N valid` and ends with 0, or what is wrong and ends with 1. JSON Schema covers types, required attributes, enums,
constraints and unknown attributes; what it cannot say is checked here: names beside ids, type_uid, deprecated attributes.
"""

import json
import sys

from jsonschema import Draft202012Validator
from ocsf_json_schema import OcsfJsonSchema, OcsfJsonSchemaEmbedded, get_ocsf_schema

OTHER = 99


def siblings(schema, attributes, value, path):
    """Yields what is wrong about names that stand beside ids, and about deprecated attributes."""
    for name, inner in value.items():
        attribute = attributes.get(name)
        if attribute is None:
            continue
        here = f"{path}.{name}"
        if "@deprecated" in attribute:
            yield f"{here} is deprecated"
        sibling, enum = attribute.get("sibling"), attribute.get("enum")
        if enum and sibling in value and not isinstance(inner, list) and inner != OTHER:
            caption = enum.get(str(inner), {}).get("caption")
            if value[sibling] != caption:
                yield f"{here} is {inner}, so {sibling} should be {caption!r}, not {value[sibling]!r}"
        if attribute.get("type") == "object_t":
            inside = schema["objects"][attribute["object_type"]]["attributes"]
            for each in inner if isinstance(inner, list) else [inner]:
                if isinstance(each, dict):
                    yield from siblings(schema, inside, each, here)


def main():
    version, path = sys.argv[1:]
    schema = get_ocsf_schema(version)
    assert schema["version"] == version
    generator = OcsfJsonSchemaEmbedded(OcsfJsonSchema(schema))
    validators = {}
    faults = count = 0
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            event = json.loads(line)
            uid = event["class_uid"]
            profiles = tuple(event.get("metadata", {}).get("profiles", []))
            if (uid, profiles) not in validators:
                name = generator.lookup_class_name_from_uid(uid)
                json_schema = generator.get_class_schema(name, list(profiles))
                validators[uid, profiles] = (Draft202012Validator(json_schema), schema["classes"][name])
            validator, class_ = validators[uid, profiles]
            wrong = [f"{error.json_path}: {error.message[:300]}" for error in validator.iter_errors(event)]
            wrong += siblings(schema, class_["attributes"], event, "$")
            if event["type_uid"] != uid * 100 + event["activity_id"]:
                wrong.append("type_uid is not made of class and activity")
            for each in wrong:
                faults += 1
                if faults <= 20:
                    print(f"{each}\n    {line[:600]}")
            count += 1
    if faults:
        print(f"{faults} faults in {count} events")
        sys.exit(1)
    print(f"{count} valid")


main()
