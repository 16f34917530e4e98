use super::*;
use crate::record::Token;

/// A node's id as it stands in a record.
fn named(id: &str) -> String {
    format!("\"{id}\"")
}

fn file(nodes: &mut Nodes, folder: usize, id: &str, time_ms: i64) {
    nodes.observe_file(folder, Token::new(&named(id)).text(), time_ms);
}

fn row(nodes: &mut Nodes, id: &str, time_ms: i64) -> RowNode {
    nodes.of_row(Token::new(&named(id)).text(), time_ms)
}

/// As the next process knows them.
fn restarted(nodes: &mut Nodes, saved: &mut ClusterNodes) {
    *saved = nodes.changes().unwrap_or_else(|| saved.clone());
    *nodes = Nodes::new(saved.clone());
}

const OF_FILES: RowNode = RowNode::Files { since: true };

#[test]
fn f83_an_id_that_no_file_has_shown_is_unknown_until_this_node_is_seen_before_and_after_it() {
    let (mut nodes, mut saved) = (Nodes::default(), ClusterNodes::default());
    assert_eq!(row(&mut nodes, "b", 5), RowNode::Unknown);
    assert!(!nodes.are_known());
    file(&mut nodes, 0, "a", 10);
    file(&mut nodes, 0, "a", 20);
    assert_eq!(row(&mut nodes, "a", 30), OF_FILES);
    // The API counts as well: the node had its id at 30. What another had at 25 is another's.
    assert_eq!(row(&mut nodes, "c", 25), RowNode::Other);
    // This may be its new id, whatever lies between.
    for time_ms in [31, 40] {
        assert_eq!(row(&mut nodes, "x", time_ms), RowNode::Unknown);
        restarted(&mut nodes, &mut saved);
    }
    assert_eq!(row(&mut nodes, "c", 50), RowNode::Other, "known from before the restart");
    // A file shows it. What it had before is its own too, and what the id in between had is nobody's known.
    assert_eq!(row(&mut nodes, "y", 60), RowNode::Unknown);
    file(&mut nodes, 0, "x", 70);
    for (id, time_ms, whose) in [
        ("x", 65, RowNode::Files { since: false }),
        ("a", 69, OF_FILES),
        ("y", 60, RowNode::Unknown),
        ("y", 64, RowNode::Unknown),
        ("c", 71, RowNode::Other),
    ] {
        assert_eq!(row(&mut nodes, id, time_ms), whose, "{id} {time_ms}");
    }
    // Someone else has the old id by now.
    file(&mut nodes, 0, "x", 90);
    assert_eq!(row(&mut nodes, "a", 80), RowNode::Other);
}

/// What came before the evidence is settled by it.
#[test]
fn f83_a_node_that_joins_the_cluster_is_another_as_soon_as_this_one_is_seen_again() {
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
        let (unknown, other) = (News::Unknown { id: id.clone() }, News::Other { id });
        assert_eq!(nodes.take_news(), [unknown, other]);
        // But a file is believed before all else.
        file(&mut nodes, 0, "b", 40);
        assert_eq!(row(&mut nodes, "b", 50), OF_FILES);
        assert_eq!(nodes.changes().unwrap().others, [""; 0]);
    }
}

/// With files of several nodes an id may be the new one of any that was not seen since.
#[test]
fn f83_one_of_several_nodes_gets_another_id() {
    let (mut nodes, mut saved) = (Nodes::default(), ClusterNodes::default());
    for (folder, id) in [(0, "a"), (1, "b")] {
        file(&mut nodes, folder, id, 10);
        file(&mut nodes, folder, id, 20);
    }
    assert!(nodes.are_several());
    restarted(&mut nodes, &mut saved);
    file(&mut nodes, 0, "a", 40);
    assert_eq!(row(&mut nodes, "z", 15), RowNode::Other);
    assert_eq!(row(&mut nodes, "x", 30), RowNode::Unknown, "b was not seen since");
    file(&mut nodes, 1, "x", 35);
    assert_eq!(row(&mut nodes, "a", 50), OF_FILES);
    assert_eq!(row(&mut nodes, "x", 50), OF_FILES);
    assert_eq!(row(&mut nodes, "b", 60), RowNode::Unknown, "x may be gone by then");
    let changed = News::Changed { from: "b".into(), to: "x".into() };
    assert!(nodes.take_news().contains(&changed));
}

/// A restart reads the last lines of a file again, of the old id too; and what comes back is back.
#[test]
fn f83_ids_that_are_read_again_and_ids_that_return() {
    let (mut nodes, mut saved) = (Nodes::default(), ClusterNodes::default());
    for (id, time_ms) in [("a", 10), ("a", 20), ("x", 30)] {
        file(&mut nodes, 0, id, time_ms);
    }
    restarted(&mut nodes, &mut saved);
    for (id, time_ms) in [("a", 10), ("a", 20), ("x", 30), ("x", 40)] {
        file(&mut nodes, 0, id, time_ms);
    }
    assert_eq!((nodes.take_news(), nodes.changes()), (vec![], None));
    assert_eq!(row(&mut nodes, "a", 35), RowNode::Other);
    file(&mut nodes, 0, "a", 50);
    assert_eq!(row(&mut nodes, "a", 60), OF_FILES);
    assert!(!nodes.are_several());
    // Files of several nodes in one folder: no more of that is taken for a change.
    for time_ms in 60..1000 {
        file(&mut nodes, 0, if time_ms % 2 == 0 { "x" } else { "a" }, time_ms);
    }
    assert!(nodes.are_several() && nodes.take_news().len() < 10);
    assert_eq!(row(&mut nodes, "a", 2000), OF_FILES);
    assert_eq!(row(&mut nodes, "x", 2000), OF_FILES);
}

/// Rows without a node: of the files where these have such records, or no node has been shown at all.
#[test]
fn f82_a_row_without_a_node_is_of_files_that_name_none() {
    let mut nodes = Nodes::default();
    assert_eq!(nodes.of_row(None, 5), OF_FILES);
    file(&mut nodes, 0, "a", 10);
    assert_eq!(nodes.of_row(None, 15), RowNode::Unknown);
    nodes.observe_file(0, None, 20);
    assert_eq!(nodes.of_row(None, 25), OF_FILES);
}

#[test]
fn f83_ids_without_end_take_no_room_without_end() {
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
