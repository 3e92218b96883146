//! Heads of neighbours: what their votes do to gradients, and ties that the order of the training data decides.

use super::{Code, Finding};
use candle_core::DType;
use robust_core::{Batch, Result};
use robust_engine::{Network, Op, Reference};
use std::sync::Arc;

/// Samples named in a finding.
const SHOWN: usize = 10;

/// Examines the k-NN head of a network, if it has one, on the images of a batch: one forward a sample.
///
/// # Errors
/// Those of the network's forward.
pub fn examine(network: &Arc<Network>, batch: &Batch) -> Result<Vec<Finding>> {
    let Some(near) = network.find("head.near") else { return Ok(vec![]) };
    let (Op::KeepTop { k }, [votes]) = (&network.nodes()[near.0].op, &network.nodes()[near.0].inputs[..]) else {
        return Ok(vec![]);
    };
    let evidence = format!(
        "the scores are votes of the {k} nearest training samples, which fall off steeply with distance: a gradient sees the nearest alone, \
         and attacks that follow it stop early"
    );
    let advice = "attack with softer votes too, and take the worse: fit the same head with a higher temperature (`robust probe --method knn \
                  --temperature 1`) and follow its gradients (`--bpda 'ENCODER?head=soft.safetensors'`)";
    let mut found = vec![Finding::new(Code::SteepVotes, evidence, advice)];
    let reference = Reference::new(Arc::clone(network), DType::F32)?;
    let tape = reference.trace(&batch.x, &[*votes])?;
    let rows = tape.value(*votes)?.to_dtype(DType::F32)?.to_vec2::<f32>()?;
    let classes = labels(network);
    let tied: Vec<u64> =
        rows.iter().zip(&batch.ids).filter(|(row, _)| undecided(row, *k, &classes)).map(|(_, id)| *id).collect();
    if !tied.is_empty() {
        let named: Vec<String> = tied.iter().take(SHOWN).map(u64::to_string).collect();
        let more = if tied.len() > SHOWN { ", ..." } else { "" };
        let evidence = format!(
            "{} of {} samples have several nearest neighbours equally near at place {k}, of different classes (samples {}{more}): which of them \
             vote is decided by the order of the training data",
            tied.len(),
            rows.len(),
            named.join(", ")
        );
        let advice = "these verdicts are arbitrary: are embeddings zero, or training images twice in the data? Take another k, or another head";
        found.push(Finding::new(Code::TiedNeighbours, evidence, advice).with("tied", tied.len() as f64));
    }
    Ok(found)
}

/// The class of each neighbour, by the layer that adds their votes up.
fn labels(network: &Network) -> Vec<usize> {
    let weight = network.params().iter().find(|p| p.name == "head.classes.weight");
    let rows =
        weight.and_then(|p| p.value.to_dtype(DType::F32).and_then(|w| w.to_vec2::<f32>()).ok()).unwrap_or_default();
    let n = rows.first().map_or(0, Vec::len);
    (0..n).map(|i| rows.iter().position(|row| row[i] != 0.).unwrap_or(0)).collect()
}

/// Whether the last vote that counts equals one that does not, and the equal ones are of several classes.
fn undecided(votes: &[f32], k: usize, classes: &[usize]) -> bool {
    let mut sorted = votes.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    let (Some(last), Some(next)) = (k.checked_sub(1).and_then(|i| sorted.get(i)), sorted.get(k)) else { return false };
    if last != next || *last == 0. {
        return false;
    }
    let mut equal = votes.iter().zip(classes).filter(|(v, _)| *v == last).map(|(_, class)| class);
    let first = equal.next();
    equal.any(|class| Some(class) != first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Tensor};
    use robust_engine::Builder;
    use robust_models::Head;

    /// The codes found for a head over embeddings that are the input itself.
    fn codes(bank: &[[f64; 2]], labels: &[u32], k: usize, x: &[[f32; 2]]) -> Vec<Code> {
        let bank = Tensor::from_vec(bank.concat(), (bank.len(), 2), &Device::Cpu).unwrap();
        let head = Head::Neighbours { bank, labels: labels.to_vec(), k, temperature: 0.5 };
        let mut net = Builder::new();
        let input = net.input("x", &[2]).unwrap();
        let out = head.lay(&mut net, input).unwrap();
        let net = Arc::new(net.finish(out).unwrap());
        let rows = Tensor::from_vec(x.concat(), (x.len(), 2), &Device::Cpu).unwrap();
        let batch = Batch::new((0..x.len() as u64).collect(), rows, None).unwrap();
        examine(&net, &batch).unwrap().into_iter().map(|f| f.code).collect()
    }

    #[test]
    fn ties_at_the_last_vote_are_named_where_they_decide() {
        let (right, up, left) = ([1., 0.], [0., 1.], [-1., 0.]);
        let clear = [[1f32, 0.2]];
        let zero = [[0f32, 0.]];
        assert_eq!(codes(&[right, up, left], &[0, 1, 2], 2, &clear), [Code::SteepVotes]);
        assert_eq!(codes(&[right, up, left], &[0, 1, 2], 2, &zero), [Code::SteepVotes, Code::TiedNeighbours]);
        // The same training sample twice, under one label and under two; and where all vote there is nothing to decide.
        assert_eq!(codes(&[right, right, left], &[0, 0, 1], 1, &clear), [Code::SteepVotes]);
        assert_eq!(codes(&[right, right, left], &[0, 1, 1], 1, &clear), [Code::SteepVotes, Code::TiedNeighbours]);
        assert_eq!(codes(&[right, right, left], &[0, 1, 1], 3, &zero), [Code::SteepVotes]);
    }
}
