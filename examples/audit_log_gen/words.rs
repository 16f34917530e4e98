//! Words for the generated values, escaped for a JSON string.

/// ASCII, raw UTF-8, and every kind of escape.
pub const PEOPLE: [&str; 12] = [
    "Ada Brand",
    "Jörg Weißmüller",
    "Søren Ødegård",
    "山田 花子",
    "Ren\\u00e9e L\\u00f3pez",
    "\\uD83D\\uDE80 Release Bot",
    "Олена Шевченко",
    "Marcus \\\"Mac\\\" Okoye",
    "نور الهادي",
    "Back\\\\slash \\/ O'Neil",
    "Tab\\tand\\u0007bell",
    "Priya Raghunathan-Featherstonehaugh",
];
pub const LOGINS: [&str; 8] = [
    "abrand",
    "j.weissmueller",
    "soren_o",
    "hanako",
    "renee.lopez@example.com",
    "svc-release",
    "olena",
    "mac",
];
pub const GROUPS: [&str; 6] = [
    "confluence-users",
    "wiki-editors",
    "platform-team",
    "Vertrieb Süd",
    "audit-readers",
    "ext\\u002dpartners",
];
pub const SPACES: [&str; 6] =
    ["Engineering Handbook", "Café & Küche", "Finance 2026", "人事", "Release \\u2014 Notes", "Sandbox"];
pub const PAGES: [&str; 6] = [
    "Runbook: restoring the payments database after a failed switch-over",
    "Besprechungsnotizen Kühlhaus",
    "Q1 \\\"north star\\\" goals",
    "週次レポート",
    "How we name things, and why that name in particular",
    "Index",
];
pub const APPS: [&str; 4] = [
    "Example Diagrams for Wikis",
    "Calendar Bridge for Teams",
    "Table Filter Plus",
    "Example Single Sign-On",
];
pub const PERMISSIONS: [&str; 6] =
    ["VIEWSPACE", "EDITSPACE", "SETSPACEPERMISSIONS", "REMOVEPAGE", "COMMENT", "EXPORTSPACE"];
pub const WORDS: [&str; 12] = [
    "index",
    "retention",
    "weekly",
    "größe",
    "external",
    "\\u00fcber",
    "limit",
    "cache",
    "thread",
    "notify",
    "mirror",
    "anonymous",
];
pub const SOURCES: [&str; 7] = [
    "192.0.2.17",
    "198.51.100.4",
    "203.0.113.99, 192.0.2.1",
    "2001:db8::4f1",
    "203.0.113.5, 198.51.100.80, 192.0.2.1",
    "[2001:db8:0:1::7]:52110",
    "",
];
pub const METHODS: [&str; 4] = ["Browser", "Browser", "Mobile", "System"];
