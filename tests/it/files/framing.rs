//! What a record is: ends, halves, very long ones, bad bytes.
