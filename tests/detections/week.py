"""Prints the lines of the audit files of a week of normal activity, as of a Confluence with 600 users.

    week.py [SEED]

Nothing in it is an attack. It has what makes rules noisy: an office whose users share one address, mistyped passwords,
new employees, permissions of new spaces, administrators at work, a poller of the audit log, and nightly jobs.
"""

import json
import random
import sys

MONDAY = 1_794_182_400  # 2026-11-09T00:00:00Z
DAY = 86_400
USERS = 600
SITE = "https://wiki.example.org"
OFFICE = "198.51.100.10"
ABROAD = 42
SUMMARY = "audit.logging.summary."
CATEGORY = {
    "audit": ("atlassian.audit.event.category.audit", "AUDIT_LOG"),
    "auth": ("audit.logging.category.auth", "SECURITY"),
    "users": ("audit.logging.category.user.management", "USER_MANAGEMENT"),
    "permissions": ("audit.logging.category.permissions", "PERMISSIONS"),
    "spaces": ("audit.logging.category.spaces", "LOCAL_CONFIG_AND_ADMINISTRATION"),
    "pages": ("audit.logging.category.pages", "END_USER_ACTIVITY"),
    "export": ("audit.logging.category.import.export", "LOCAL_CONFIG_AND_ADMINISTRATION"),
    "admin": ("audit.logging.category.admin", "GLOBAL_CONFIG_AND_ADMINISTRATION"),
    "plugins": ("audit.logging.category.plugins", "GLOBAL_CONFIG_AND_ADMINISTRATION"),
    "tokens": ("personal.access.tokens.audit.log.category", "SECURITY"),
}
SPACE_PERMISSIONS = ["VIEWSPACE", "EDITSPACE", "COMMENT", "CREATEATTACHMENT", "REMOVEOWNCONTENT", "EDITBLOG"]
ADMINISTRATOR_PERMISSIONS = SPACE_PERMISSIONS + ["REMOVEPAGE", "REMOVECOMMENT", "EXPORTSPACE", "SETSPACEPERMISSIONS"]


class Week:
    def __init__(self, seed):
        self.random = random.Random(seed)
        self.events = []
        self.spaces = self.pages = 0

    def user(self, number):
        return {"id": f"{number + 0x1000:032x}", "name": f"Employee {number}", "type": "User"}

    def add(self, at, category, action, author, objects=(), changes=(), source=OFFICE):
        key, area = CATEGORY[category]
        if isinstance(author, int):
            author = {**self.user(author), "type": "user"}
        event = {
            "affectedObjects": list(objects),
            "auditType": {
                "action": action.rsplit(".", 2)[-2] + " " + action.rsplit(".", 1)[-1],
                "actionI18nKey": action,
                "area": area,
                "category": category,
                "categoryI18nKey": key,
                "level": "BASE",
            },
            "author": author,
            "changedValues": [{"i18nKey": name, "key": name, **values} for name, values in changes],
            "extraAttributes": [],
            "method": "Browser" if source else "System",
            "system": SITE,
            "timestamp": {"epochSecond": int(at), "nano": self.random.randrange(1000) * 1_000_000},
            "version": "1.0",
        }
        if source:
            event["source"] = source
        self.events.append(event)

    SYSTEM = {"id": "-1", "name": "System", "type": "system"}
    ANONYMOUS = {"id": "-2", "name": "Anonymous", "type": "user"}

    def login(self, at, number):
        # A third works at home, each with an address of the provider.
        source = f"81.2.69.{number % 250 + 1}" if number % 3 == 0 else OFFICE
        # One employee is abroad from Thursday.
        if number == ABROAD and at > MONDAY + 3 * DAY:
            source = "67.43.156.9"
        for _ in range(self.random.choices([0, 1, 2, 3], [94, 4, 1, 1])[0]):
            self.add(at, "auth", SUMMARY + "login.failed", self.ANONYMOUS, [self.user(number)], source=source)
            at += self.random.randrange(5, 20)
        self.add(at, "auth", SUMMARY + "login.success", number, [self.user(number)], source=source)

    def space(self, at, number):
        self.spaces += 1
        space = {"id": str(900_000 + self.spaces), "name": f"Project {self.spaces}", "type": "Space"}
        self.add(at, "spaces", SUMMARY + "space.created", number, [space])
        for group, permissions in [("staff", SPACE_PERMISSIONS), ("leads", ADMINISTRATOR_PERMISSIONS)]:
            for permission in permissions:
                grantee = {"id": group, "name": group, "type": "Group"}
                changes = [("Group", {"to": group}), ("Type", {"to": permission}), ("Space", {"to": "P"})]
                self.add(at + 1, "permissions", SUMMARY + "space.permission.added", number, [grantee, space], changes)

    def page(self, at, number, action):
        self.pages += 1
        page = {"id": str(5_000_000 + self.pages), "name": f"Notes {self.pages}", "type": "Page"}
        self.add(at, "pages", SUMMARY + action, number, [page])

    def employee(self, at, number, administrator=1):
        changes = [("Display name", {"to": f"Employee {number}"}), ("Active", {"to": "Yes"})]
        self.add(at, "users", SUMMARY + "user.created", administrator, [self.user(number)], changes)
        for group in ["staff", "confluence-users"]:
            objects = [{"id": group, "name": group, "type": "Group"}, self.user(number)]
            self.add(at + 2, "users", SUMMARY + "group.membership.added", administrator, objects)

    def administrator(self, at):
        """An hour of an administrator: a confirmed password, employees, a setting."""
        self.add(at, "auth", SUMMARY + "sudo.auth.successful", 1)
        for number in range(self.random.randrange(3)):
            self.employee(at + 60 + 90 * number, self.random.randrange(10_000, 99_999))
        self.add(at + 1800, "auth", SUMMARY + "sudo.logout", 1)

    def night(self, start):
        at = start + 2 * 3600
        self.add(at, "export", SUMMARY + "site.backup", self.SYSTEM, source=None)
        for _ in range(self.random.randrange(12)):
            number = self.random.randrange(USERS)
            objects = [self.user(number)]
            self.add(at + 600, "users", SUMMARY + "user.updated", self.SYSTEM, objects, source=None)

    def poller(self, start):
        """A collector that asks the API every five minutes, and an auditor who searches in the morning."""
        collector = {"id": f"{0x999:032x}", "name": "NAME OF THE AGENT", "type": "user"}
        for minute in range(0, 24 * 60, 5):
            at = start + 60 * minute
            self.add(at, "audit", "atlassian.audit.event.action.audit.search", collector, source="192.0.2.40")
        auditor = {"id": f"{0x998:032x}", "name": "NAME OF AN AUDITOR", "type": "user"}
        for second in range(0, 3000, 300):
            self.add(start + 9 * 3600 + second, "audit", "atlassian.audit.event.action.audit.search", auditor)

    def work_day(self, start):
        some = self.random
        for number in range(USERS):
            if some.random() < 0.85 or number == ABROAD:
                self.login(start + some.gauss(8.75, 0.6) * 3600, number)
            for _ in range(some.randrange(3)):
                self.page(start + some.uniform(8, 18) * 3600, number, "page.created")
            if some.random() < 0.05:
                # Old notes are cleaned up.
                at = start + some.uniform(9, 17) * 3600
                for page in range(some.randrange(1, 15)):
                    self.page(at + 8 * page, number, "page.deleted")
        for _ in range(some.randrange(1, 4)):
            self.space(start + some.uniform(9, 17) * 3600, some.randrange(USERS))
        for hour in [9, 11, 15]:
            self.administrator(start + hour * 3600 + some.randrange(1800))
        for _ in range(some.randrange(4)):
            at = start + some.uniform(9, 17) * 3600
            self.add(at, "tokens", "personal.access.tokens.audit.log.summary.token.created", some.randrange(2, USERS))

    def seldom(self):
        """What happens once or twice a week."""
        handbook = {"id": "1001", "name": "Handbook", "type": "Space"}
        at = MONDAY + DAY + 14 * 3600
        self.add(at, "export", SUMMARY + "space.export", 17, [handbook])
        self.add(at + 2 * DAY, "export", SUMMARY + "space.export", 230, [handbook])
        self.add(at + 60, "spaces", SUMMARY + "space.removed", 17, [handbook])
        self.add(at + DAY, "admin", SUMMARY + "global.settings.edited", 1, changes=[("Site title", {"to": "Wiki"})])
        kit = {"name": "Diagram Kit", "type": "App"}
        for second, action in enumerate(["plugin.disabled", "plugin.uninstalled", "plugin.installed"]):
            self.add(at + 3 * DAY + second, "plugins", SUMMARY + action, 1, [kit])
        self.add(at + 3 * DAY + 5, "plugins", SUMMARY + "plugin.enabled", self.SYSTEM, [kit], source=None)
        objects = [{"id": "confluence-administrators", "name": "confluence-administrators", "type": "Group"}]
        self.add(at + 4 * DAY, "users", SUMMARY + "group.membership.added", 1, objects + [self.user(2)])
        self.add(at + 3600, "users", SUMMARY + "group.deleted", 1, [{"id": "old", "name": "old", "type": "Group"}])
        for number in range(4):
            self.add(at + 7200 + 60 * number, "users", SUMMARY + "user.deleted", 1, [self.user(500 + number)])

    def lines(self):
        for day in range(7):
            start = MONDAY + day * DAY
            self.night(start)
            self.poller(start)
            if day < 5:
                self.work_day(start)
        self.seldom()
        self.events.sort(key=lambda event: event["timestamp"]["epochSecond"])
        return (json.dumps(event, separators=(",", ":")) for event in self.events)


def main():
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    for line in Week(seed).lines():
        print(line)


main()
