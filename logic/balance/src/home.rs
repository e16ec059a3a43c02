use model::{PlacedMember, Weight};

use crate::rendezvous::first;

/// The node, of those given with their weights, that a name belongs to; `None` if none has a weight. Whoever asks gets the same
/// answer, whatever the order: rendezvous hashing. A node that leaves takes its own names away and moves no others, and one
/// that comes takes from each its part.
pub fn home(nodes: impl IntoIterator<Item = (u64, u16)>, name: &str) -> Option<u64> {
    let nodes: Vec<(u64, u16)> = nodes
        .into_iter()
        .filter(|(_, weight)| *weight > 0)
        .collect();
    let members = (0..).zip(&nodes).map(|(number, (node, weight))| {
        let member = PlacedMember {
            identity: crate::key([0; 2], &node.to_le_bytes()),
            weight: Weight(*weight),
            endpoint: number,
        };
        (number, member)
    });
    // Without a secret: whoever chooses names so that they meet at one node could name that node as well.
    let found = first(members, crate::key([0; 2], name.as_bytes()))?;
    nodes.get(found as usize).map(|(node, _)| *node)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODES: [(u64, u16); 3] = [(11, 100), (22, 100), (33, 100)];

    fn names() -> impl Iterator<Item = String> {
        (0..3_000).map(|n| format!("checkout-{n}"))
    }

    #[test]
    fn every_node_gets_its_part_of_the_names_and_all_agree() {
        let mut given = [0; 3];
        for name in names() {
            let node = home(NODES, &name);
            let mut backwards = NODES;
            backwards.reverse();
            assert_eq!(home(backwards, &name), node);
            let place = NODES.iter().position(|(n, _)| Some(*n) == node);
            given[place.expect("one of them")] += 1;
        }
        assert!(given.iter().all(|n| (900..1_100).contains(n)), "{given:?}");
    }

    #[test]
    fn a_node_that_leaves_moves_no_names_but_its_own() {
        let left = [NODES[0], NODES[2]];
        for name in names() {
            let (before, after) = (home(NODES, &name), home(left, &name));
            assert!(before == after || before == Some(22), "{name}");
        }
    }

    #[test]
    fn weights_count_and_a_node_without_one_gets_nothing() {
        let nodes = [(11, 300), (22, 100), (33, 0)];
        let first = names().filter(|name| home(nodes, name) == Some(11)).count();
        assert!((2_150..2_350).contains(&first), "{first}");
        assert!(names().all(|name| home(nodes, &name) != Some(33)));
        assert_eq!(home([(11, 0)], "a"), None);
    }
}
