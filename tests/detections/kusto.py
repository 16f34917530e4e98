"""Evaluates conditions of queries for Microsoft Sentinel: what follows `where`, of the operators that they use."""

import re

TOKEN = re.compile(r'\s*(?:("(?:[^"\\]|\\.)*")|([A-Za-z]\w*~?|[=!<>]=|=~|!~|[(),-]))')


def tokens(text):
    at, found = 0, []
    text = text.strip()
    while at < len(text):
        match = TOKEN.match(text, at)
        assert match, f"what is {text[at:]!r}?"
        found.append(match[0].strip())
        at = match.end()
    return found


class Condition:
    """Holds for an event or not. A column that an event does not fill is an empty text."""

    def __init__(self, text):
        self.left = tokens(text)
        self.holds = self.any()
        assert not self.left, f"what is {self.left}?"

    def take(self, *expected):
        token = self.left.pop(0)
        assert not expected or token in expected, f"{token} is not {expected}"
        return token

    def is_next(self, token):
        return bool(self.left) and self.left[0] == token

    def any(self):
        parts = [self.all()]
        while self.is_next("or"):
            self.take("or")
            parts.append(self.all())
        return lambda event: any(part(event) for part in parts)

    def all(self):
        parts = [self.one()]
        while self.is_next("and"):
            self.take("and")
            parts.append(self.one())
        return lambda event: all(part(event) for part in parts)

    def one(self):
        token = self.take()
        if token == "(":
            inner = self.any()
            self.take(")")
            return inner
        if token == "not":
            self.take("(")
            inner = self.any()
            self.take(")")
            return lambda event: not inner(event)
        return self.comparison(token)

    def comparison(self, column):
        operator = self.take("=~", "==", "in~", "contains", "startswith", "endswith")
        if operator == "in~":
            self.take("(")
            values = [self.value()]
            while self.take(",", ")") == ",":
                values.append(self.value())
        else:
            values = [self.value()]

        def holds(event):
            text = event.get(column, "")
            text = str(text).lower() if isinstance(text, bool) else str(text)
            if operator == "==":
                return text == values[0]
            text, wanted = text.lower(), [value.lower() for value in values]
            tests = {"contains": text.__contains__, "startswith": text.startswith, "endswith": text.endswith}
            return text in wanted if operator in ["=~", "in~"] else tests[operator](wanted[0])

        return holds

    def value(self):
        token = self.take()
        if token in ["true", "false"]:
            return token
        assert token.startswith('"'), f"{token} is no text"
        return re.sub(r"\\(.)", r"\1", token[1:-1])
