//! The nodes an output needs, producers first; cycles are refused. Iterative: graphs may be arbitrarily deep.

use super::proto::GraphProto;
use robust_core::{Error, Result};
use std::collections::{HashMap, HashSet};

/// Indices into `graph.node`. `given` are the values no node has to produce.
pub fn order(graph: &GraphProto, output: &str, given: &HashSet<&str>) -> Result<Vec<usize>> {
    let mut producer: HashMap<&str, usize> = HashMap::new();
    for (i, node) in graph.node.iter().enumerate() {
        for value in node.output.iter().filter(|v| !v.is_empty()) {
            if given.contains(value.as_str()) || producer.insert(value, i).is_some() {
                return Err(Error::load("graph", format!("value `{value}` is defined twice")));
            }
        }
    }
    if given.contains(output) {
        return Ok(vec![]);
    }
    let Some(&last) = producer.get(output) else {
        return Err(Error::load("graph", format!("no node produces the output `{output}`")));
    };
    let (mut open, mut done) = (vec![false; graph.node.len()], vec![false; graph.node.len()]);
    let (mut sorted, mut stack) = (vec![], vec![(last, 0usize)]);
    open[last] = true;
    while let Some((node, next)) = stack.last_mut() {
        let i = *node;
        let Some(value) = graph.node[i].input.get(*next) else {
            done[i] = true;
            sorted.push(i);
            stack.pop();
            continue;
        };
        *next += 1;
        if value.is_empty() || given.contains(value.as_str()) {
            continue;
        }
        let place = || format!("node `{}` ({})", super::proto::node_name(&graph.node[i]), graph.node[i].op_type);
        match producer.get(value.as_str()) {
            None => return Err(Error::load(place(), format!("nothing produces its input `{value}`"))),
            Some(&j) if done[j] => {}
            Some(&j) if open[j] => {
                return Err(Error::load(
                    place(),
                    format!("it depends on itself through `{value}`: the graph is cyclic"),
                ));
            }
            Some(&j) => {
                open[j] = true;
                stack.push((j, 0));
            }
        }
    }
    Ok(sorted)
}
