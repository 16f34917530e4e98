//! Sorts rows by id in bounded memory: sorted runs in temporary files, merged when they are read.

use super::row::{ROW_BYTES, Row};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};

/// Rows that are kept in memory: 12 MiB.
const RUN_ROWS: usize = (12 << 20) / ROW_BYTES;
/// Buffer of a run that is merged. A ledger of 13 million entries has 70 runs.
const MERGE_BUFFER_BYTES: usize = 64 << 10;

type RowBytes = [u8; ROW_BYTES];

/// Takes rows in any order.
pub(crate) struct Sorter {
    rows: Vec<RowBytes>,
    runs: Vec<File>,
    run_rows: usize,
}

impl Default for Sorter {
    fn default() -> Sorter {
        Sorter::with_run_rows(RUN_ROWS)
    }
}

impl Sorter {
    fn with_run_rows(run_rows: usize) -> Sorter {
        Sorter { rows: Vec::new(), runs: Vec::new(), run_rows }
    }

    pub(crate) fn push(&mut self, row: &Row) -> io::Result<()> {
        self.rows.push(row.to_bytes());
        if self.rows.len() >= self.run_rows { self.write_run() } else { Ok(()) }
    }

    fn write_run(&mut self) -> io::Result<()> {
        self.rows.sort_unstable();
        let mut run = BufWriter::with_capacity(MERGE_BUFFER_BYTES, tempfile::tempfile()?);
        run.write_all(self.rows.as_flattened())?;
        let mut run = run.into_inner().map_err(io::IntoInnerError::into_error)?;
        run.rewind()?;
        self.runs.push(run);
        self.rows.clear();
        Ok(())
    }

    /// The rows in order.
    pub(crate) fn finish(mut self) -> io::Result<Sorted> {
        if self.runs.is_empty() {
            self.rows.sort_unstable();
            return Ok(Sorted(Merge::Memory(self.rows.into_iter())));
        }
        if !self.rows.is_empty() {
            self.write_run()?;
        }
        // The memory is free before the next rows are sorted.
        self.rows = Vec::new();
        let runs = self.runs.into_iter().map(|run| BufReader::with_capacity(MERGE_BUFFER_BYTES, run));
        let mut merge = Runs { runs: runs.collect(), next: BinaryHeap::new() };
        for run in 0..merge.runs.len() {
            merge.refill(run)?;
        }
        Ok(Sorted(Merge::Runs(merge)))
    }
}

/// Sorted rows.
pub(crate) struct Sorted(Merge);

enum Merge {
    Memory(std::vec::IntoIter<RowBytes>),
    Runs(Runs),
}

struct Runs {
    runs: Vec<BufReader<File>>,
    /// The next row of each run.
    next: BinaryHeap<Reverse<(RowBytes, usize)>>,
}

impl Runs {
    fn refill(&mut self, run: usize) -> io::Result<()> {
        let mut row = [0; ROW_BYTES];
        match self.runs[run].read_exact(&mut row) {
            Ok(()) => self.next.push(Reverse((row, run))),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

impl Iterator for Sorted {
    type Item = io::Result<Row>;

    fn next(&mut self) -> Option<io::Result<Row>> {
        match &mut self.0 {
            Merge::Memory(rows) => rows.next().map(|row| Ok(Row::from_bytes(&row))),
            Merge::Runs(runs) => {
                let Reverse((row, run)) = runs.next.pop()?;
                Some(runs.refill(run).map(|()| Row::from_bytes(&row)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(n: u64) -> Row {
        Row {
            id: u128::from(n).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835) >> 3,
            place: n,
            time_ms: -(n as i64),
            origin: n as u16,
            flags: n as u8,
            kind: 1,
            digest: [n as u8; 32],
        }
    }

    #[test]
    fn rows_are_sorted_in_memory_and_in_runs() {
        let mut expected: Vec<Row> = (0..1000).map(|n| row(n % 900)).collect();
        let unsorted = expected.clone();
        expected.sort_by_key(|row| (row.id, row.place));
        for run_rows in [2000, 1000, 7] {
            let mut sorter = Sorter::with_run_rows(run_rows);
            unsorted.iter().for_each(|row| sorter.push(row).unwrap());
            let sorted: Vec<Row> = sorter.finish().unwrap().map(Result::unwrap).collect();
            assert_eq!(sorted, expected, "{run_rows}");
        }
        assert_eq!(Sorter::default().finish().unwrap().count(), 0);
    }
}
