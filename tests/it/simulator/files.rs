//! Audit files, and rows from a folder.
