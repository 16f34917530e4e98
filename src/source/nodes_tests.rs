use super::*;
use crate::record::Token;

/// A node's id as it is written in a record.
fn named(id: &str) -> String {
    format!("\"{id}\"")
}

fn file(nodes: &mut Nodes, directory: usize, id: &str, time_ms: i64) {
    nodes.observe_file(directory, Token::new(&named(id)).text(), time_ms);
}

fn row(nodes: &mut Nodes, id: &str, time_ms: i64) -> RowNode {
    nodes.classify_row(Token::new(&named(id)).text(), time_ms)
}

/// As the next process knows them.
fn restarted(nodes: &mut Nodes, saved: &mut ClusterNodes) {
    *saved = nodes.take_changes().unwrap_or_else(|| saved.clone());
    *nodes = Nodes::new(saved.clone());
}

const OF_FILES: RowNode = RowNode::Files { covers_time: true };

#[test]
fn f83_an_id_in_no_file_is_unknown_until_this_node_has_events_before_and_after_it() {
    let (mut nodes, mut saved) = (Nodes::default(), ClusterNodes::default());
    assert_eq!(row(&mut nodes, "b", 5), RowNode::Unknown);
    assert!(!nodes.are_known());
    file(&mut nodes, 0, "a", 10);
    file(&mut nodes, 0, "a", 20);
    assert_eq!(row(&mut nodes, "a", 30), OF_FILES);
    // A row counts as well: the node had its id at 30, so the id at 25 is another node's.
    assert_eq!(row(&mut nodes, "c", 25), RowNode::Other);
    // This may be its new id, regardless of the time between.
    for time_ms in [31, 40] {
        assert_eq!(row(&mut nodes, "x", time_ms), RowNode::Unknown);
        restarted(&mut nodes, &mut saved);
    }
    assert_eq!(row(&mut nodes, "c", 50), RowNode::Other, "known from before the restart");
    // A file contains it, so earlier rows of both ids are the node's. The id in between stays unknown.
    assert_eq!(row(&mut nodes, "y", 60), RowNode::Unknown);
    file(&mut nodes, 0, "x", 70);
    for (id, time_ms, whose) in [
        ("x", 65, RowNode::Files { covers_time: false }),
        ("a", 69, OF_FILES),
        ("y", 60, RowNode::Unknown),
        ("y", 64, RowNode::Unknown),
        ("c", 71, RowNode::Other),
    ] {
        assert_eq!(row(&mut nodes, id, time_ms), whose, "{id} {time_ms}");
    }
    // The old id is another node's by now.
    file(&mut nodes, 0, "x", 90);
    assert_eq!(row(&mut nodes, "a", 80), RowNode::Other);
}

/// Rows before the decisive event are classified by it too.
#[test]
fn f83_a_node_that_joins_is_another_one_after_the_next_event_of_this_node() {
    for by_api in [false, true] {
        let mut nodes = Nodes::default();
        file(&mut nodes, 0, "a", 10);
        assert_eq!(row(&mut nodes, "b", 15), RowNode::Unknown);
        assert_eq!(row(&mut nodes, "b", 18), RowNode::Unknown);
        if by_api {
            assert_eq!(row(&mut nodes, "a", 20), OF_FILES);
        } else {
            file(&mut nodes, 0, "a", 20);
        }
        assert_eq!(row(&mut nodes, "b", 30), RowNode::Other);
        let id = "b".to_owned();
        let (unknown, other) = (Discovery::Unknown { id: id.clone() }, Discovery::Other { id });
        assert_eq!(nodes.take_discoveries(), [unknown, other]);
        // A file overrides every other conclusion.
        file(&mut nodes, 0, "b", 40);
        assert_eq!(row(&mut nodes, "b", 50), OF_FILES);
        assert_eq!(nodes.take_changes().unwrap().others, [""; 0]);
    }
}

/// With files of several nodes an id may be the new one of any node without a later event.
#[test]
fn f83_one_of_several_nodes_gets_another_id() {
    let (mut nodes, mut saved) = (Nodes::default(), ClusterNodes::default());
    for (directory, id) in [(0, "a"), (1, "b")] {
        file(&mut nodes, directory, id, 10);
        file(&mut nodes, directory, id, 20);
    }
    assert!(nodes.are_several());
    restarted(&mut nodes, &mut saved);
    file(&mut nodes, 0, "a", 40);
    assert_eq!(row(&mut nodes, "z", 15), RowNode::Other);
    assert_eq!(row(&mut nodes, "x", 30), RowNode::Unknown, "b has no later event");
    file(&mut nodes, 1, "x", 35);
    assert_eq!(row(&mut nodes, "a", 50), OF_FILES);
    assert_eq!(row(&mut nodes, "x", 50), OF_FILES);
    assert_eq!(row(&mut nodes, "b", 60), RowNode::Unknown, "x may have another id by then");
    let changed = Discovery::Changed { from: "b".into(), to: "x".into() };
    assert!(nodes.take_discoveries().contains(&changed));
}

/// A restart replays the last lines of a file, some of the old id; and an old id may return.
#[test]
fn f83_replayed_ids_and_ids_that_return() {
    let (mut nodes, mut saved) = (Nodes::default(), ClusterNodes::default());
    for (id, time_ms) in [("a", 10), ("a", 20), ("x", 30)] {
        file(&mut nodes, 0, id, time_ms);
    }
    restarted(&mut nodes, &mut saved);
    for (id, time_ms) in [("a", 10), ("a", 20), ("x", 30), ("x", 40)] {
        file(&mut nodes, 0, id, time_ms);
    }
    assert_eq!((nodes.take_discoveries(), nodes.take_changes()), (vec![], None));
    assert_eq!(row(&mut nodes, "a", 35), RowNode::Other);
    file(&mut nodes, 0, "a", 50);
    assert_eq!(row(&mut nodes, "a", 60), OF_FILES);
    assert!(!nodes.are_several());
    // Files of several nodes in one directory: after a few times this is no longer a change of the id.
    for time_ms in 60..1000 {
        file(&mut nodes, 0, if time_ms % 2 == 0 { "x" } else { "a" }, time_ms);
    }
    assert!(nodes.are_several() && nodes.take_discoveries().len() < 10);
    assert_eq!(row(&mut nodes, "a", 2000), OF_FILES);
    assert_eq!(row(&mut nodes, "x", 2000), OF_FILES);
}

/// A row without a node belongs to the files if they have such records, or no node is known at all.
#[test]
fn f82_a_row_without_a_node_belongs_to_files_without_nodes() {
    let mut nodes = Nodes::default();
    assert_eq!(nodes.classify_row(None, 5), OF_FILES);
    file(&mut nodes, 0, "a", 10);
    assert_eq!(nodes.classify_row(None, 15), RowNode::Unknown);
    nodes.observe_file(0, None, 20);
    assert_eq!(nodes.classify_row(None, 25), OF_FILES);
}

#[test]
fn f83_the_number_of_node_ids_is_bounded() {
    let mut nodes = Nodes::default();
    file(&mut nodes, 0, "a", 0);
    for number in 0..1000 {
        row(&mut nodes, &format!("b{number}"), 10 + number);
    }
    assert!(nodes.unknown.len() <= IDS_MAX);
    file(&mut nodes, 0, "a", 5000);
    for number in 0..1000 {
        assert_eq!(row(&mut nodes, &format!("c{number}"), 20), RowNode::Other);
    }
    assert!(nodes.others.len() <= IDS_MAX);
}
