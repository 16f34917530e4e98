//! The simulated database: inserted rows, and rows that are generated from their number.

use super::shapes;

/// One audit event. `api` is its form in the API, `line` the one in a node's file.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Assigned at insertion, counting from 1.
    pub id: u64,
    pub time_ms: i64,
    /// The API shows the row from this simulated time on. A row can be late.
    pub visible_from_ms: i64,
    /// The node of the event; its file gets the line.
    pub node: String,
    pub in_database: bool,
    pub in_file: bool,
    /// JSON of the entity (Data Center) or record (Cloud).
    pub api: String,
    /// Data Center only, without LF.
    pub line: Option<String>,
}

impl Row {
    /// From JSON in any of the three shapes: audit file line, Data Center entity, Cloud record.
    pub fn from_json(text: &str) -> Result<Row, String> {
        let shapes = shapes::read(text)?;
        Ok(Row {
            id: 0,
            time_ms: shapes.time_ms,
            visible_from_ms: i64::MIN,
            node: shapes.node,
            in_database: true,
            in_file: shapes.line.is_some(),
            api: shapes.api,
            line: shapes.line,
        })
    }

    /// An event of Data Center with `number` in both shapes.
    pub fn data_center(time_ms: i64, number: u64) -> Row {
        Row {
            id: 0,
            time_ms,
            visible_from_ms: i64::MIN,
            node: String::new(),
            in_database: true,
            in_file: true,
            api: shapes::numbered_entity(number, time_ms),
            line: Some(shapes::numbered_line(number, time_ms)),
        }
    }

    /// A record of Cloud with `number`.
    pub fn cloud(time_ms: i64, number: u64) -> Row {
        Row {
            api: shapes::numbered_record(number, time_ms),
            line: None,
            in_file: false,
            ..Row::data_center(time_ms, number)
        }
    }

    pub fn visible_from(mut self, clock_ms: i64) -> Row {
        self.visible_from_ms = clock_ms;
        self
    }

    /// As on a cluster: both shapes contain the node, and the line goes to that node's file.
    pub fn on_node(mut self, node: &str) -> Row {
        node.clone_into(&mut self.node);
        self.api = shapes::with_node(&self.api, node);
        self.line = self.line.map(|line| shapes::with_node(&line, node));
        self
    }

    /// Changes its time in all shapes.
    pub fn move_by(&mut self, by_ms: i64) {
        self.time_ms += by_ms;
        self.api = shapes::at(&self.api, self.time_ms);
        self.line = self.line.as_ref().map(|line| shapes::at(line, self.time_ms));
    }

    /// The event is in the file and never in the database.
    pub fn file_only(mut self) -> Row {
        self.in_database = false;
        self
    }

    /// The event is in the database and never in a file.
    pub fn database_only(mut self) -> Row {
        self.in_file = false;
        self
    }

    /// The number of a row that [`Row::data_center`], [`Row::cloud`] or [`Generated`] made.
    pub fn number(&self) -> Option<u64> {
        shapes::number_in(&self.api)
    }
}

/// Rows that are not stored: each is generated from its number when a page contains it. They are before all
/// inserted rows.
#[derive(Debug, Clone)]
pub struct Generated {
    pub count: u64,
    pub start_ms: i64,
    /// Time between two instants.
    pub step_ms: i64,
    /// Number of rows with the same time.
    pub rows_per_instant: u64,
    /// Generates the JSON of a row from its number (from 1) and its time.
    pub api: fn(u64, i64) -> String,
}

impl Generated {
    pub fn entities(count: u64, start_ms: i64, step_ms: i64) -> Generated {
        Generated { count, start_ms, step_ms, rows_per_instant: 1, api: shapes::numbered_entity }
    }

    pub fn records(count: u64, start_ms: i64, step_ms: i64) -> Generated {
        Generated { api: shapes::numbered_record, ..Generated::entities(count, start_ms, step_ms) }
    }

    fn time_ms(&self, index: u64) -> i64 {
        self.start_ms + (index / self.rows_per_instant.max(1)) as i64 * self.step_ms
    }

    fn key(&self, index: u64) -> Key {
        (self.time_ms(index), index + 1)
    }

    /// Number of the oldest rows with a key below this one.
    fn below(&self, key: Key) -> u64 {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.key(middle) < key {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }
}

/// The sort key of rows.
pub type Key = (i64, u64);

/// The rows that a response may contain.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// Both inclusive, in milliseconds.
    pub from_ms: i64,
    pub to_ms: i64,
    /// Only rows before this one in the order of keys.
    pub before: Option<Key>,
    pub clock_ms: i64,
}

/// A part of the table, newest first.
#[derive(Debug, Default)]
pub struct Page {
    pub rows: Vec<(Key, String)>,
    /// Whether the window has older rows.
    pub more: bool,
}

/// The table. Inserted rows are sorted by their keys.
#[derive(Debug, Default)]
pub struct Rows {
    inserted: Vec<Row>,
    generated: Option<Generated>,
    last_id: u64,
}

impl Rows {
    pub fn generate(&mut self, generated: Generated) {
        self.last_id = self.last_id.max(generated.count);
        self.generated = Some(generated);
    }

    /// Assigns the row's id and position.
    pub fn insert(&mut self, mut row: Row) -> u64 {
        self.last_id += 1;
        row.id = self.last_id;
        let key = (row.time_ms, row.id);
        let at = self.inserted.partition_point(|r| (r.time_ms, r.id) < key);
        self.inserted.insert(at, row);
        self.last_id
    }

    /// Deletes rows older than this, as the retention of the database does.
    pub fn drop_before(&mut self, time_ms: i64) {
        self.inserted.retain(|row| row.time_ms >= time_ms);
    }

    /// All inserted rows, oldest first.
    pub fn inserted(&self) -> &[Row] {
        &self.inserted
    }

    fn visible(&self, window: Window) -> impl DoubleEndedIterator<Item = &Row> {
        let first = self.inserted.partition_point(|r| r.time_ms < window.from_ms);
        let end = self.inserted.partition_point(|r| match window.before {
            Some(before) => (r.time_ms, r.id) < before && r.time_ms <= window.to_ms,
            None => r.time_ms <= window.to_ms,
        });
        self.inserted[first.min(end)..end]
            .iter()
            .filter(move |r| r.in_database && r.visible_from_ms <= window.clock_ms)
    }

    fn generated_range(&self, window: Window) -> (u64, u64) {
        let Some(generated) = &self.generated else {
            return (0, 0);
        };
        let low = generated.below((window.from_ms, 0));
        let end = (window.to_ms.saturating_add(1), 0);
        let high = generated.below(window.before.map_or(end, |before| before.min(end)));
        (low, high.max(low))
    }

    pub fn count(&self, window: Window) -> u64 {
        let (low, high) = self.generated_range(window);
        self.visible(window).count() as u64 + high - low
    }

    /// `limit` rows of the window after the newest `offset` ones.
    pub fn page(&self, window: Window, offset: u64, limit: usize) -> Page {
        let (low, mut high) = self.generated_range(window);
        let mut skip = offset;
        let mut page = Page::default();
        let mut inserted = self.visible(window).rev();
        loop {
            let next = inserted.next();
            // The generated rows that are newer than the next inserted one.
            if let Some(generated) = &self.generated {
                let end = next.map_or(low, |row| generated.below((row.time_ms, row.id)).clamp(low, high));
                let skipped = skip.min(high - end);
                (skip, high) = (skip - skipped, high - skipped);
                while high > end {
                    if page.rows.len() == limit {
                        page.more = true;
                        return page;
                    }
                    high -= 1;
                    let key = generated.key(high);
                    page.rows.push((key, (generated.api)(key.1, key.0)));
                }
            }
            let Some(row) = next else {
                return page;
            };
            if skip > 0 {
                skip -= 1;
            } else if page.rows.len() == limit {
                page.more = true;
                return page;
            } else {
                page.rows.push(((row.time_ms, row.id), row.api.clone()));
            }
        }
    }
}
