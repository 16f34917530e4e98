//! The forms of exported events. Pure.

use crate::format::FormatKind;

/// The form of an exported event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExportFormat {
    Event(FormatKind),
    /// The record itself, as Confluence wrote it.
    Original,
}

impl ExportFormat {
    pub(crate) const ALL: [ExportFormat; 6] = [
        ExportFormat::Event(FormatKind::Ecs),
        ExportFormat::Event(FormatKind::Raw),
        ExportFormat::Event(FormatKind::Sentinel),
        ExportFormat::Event(FormatKind::Cef),
        ExportFormat::Event(FormatKind::Ocsf),
        ExportFormat::Original,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            ExportFormat::Event(kind) => kind.as_str(),
            ExportFormat::Original => "original",
        }
    }

    /// Index in [`ExportFormat::ALL`].
    pub(crate) fn code(self) -> u8 {
        ExportFormat::ALL.iter().position(|format| *format == self).unwrap_or_default() as u8
    }

    /// Where the original is in an event of this format; `None`: it has none.
    pub(crate) fn original_member(self) -> Option<&'static str> {
        match self {
            ExportFormat::Event(FormatKind::Ecs) => Some("event.original"),
            ExportFormat::Event(FormatKind::Ocsf) => Some("raw_data"),
            ExportFormat::Event(FormatKind::Raw) | ExportFormat::Original => Some("the record"),
            ExportFormat::Event(FormatKind::Sentinel | FormatKind::Cef) => None,
        }
    }
}
