//! A row's bits do not depend on its neighbours, its position or the number of threads.

use crate::cases::{self, Case, normals};
use candle_core::{DType, Tensor};
use robust_core::take;
use robust_engine::*;

/// Output and input gradient of each row, as bits; the seed of a row belongs to it.
fn bits(net: &Reference, x: &Tensor, seeds: &Tensor) -> Vec<(Vec<u32>, Vec<u32>)> {
    let mut tape = net.trace(x, &[]).unwrap();
    let dx = tape.pull(&[(net.network().output(), seeds.clone())]).unwrap();
    let plain = net.forward(x).unwrap();
    let rows = |t: &Tensor| -> Vec<Vec<u32>> {
        (0..x.dims()[0])
            .map(|i| t.get(i).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap())
            .map(|row| row.into_iter().map(f32::to_bits).collect())
            .collect()
    };
    let out = rows(tape.output());
    assert_eq!(out, rows(&plain), "forward and trace differ");
    out.into_iter().zip(rows(&dx)).collect()
}

fn check(case: &Case, n: u32, alone: &[u32]) {
    let net = Reference::new(case.net.clone(), DType::F32).unwrap();
    let x = case.input(n as usize);
    let mut dims = vec![n as usize];
    dims.extend(case.net.output_row());
    let seeds = normals(5, 5, &dims);
    let threads = |k| rayon::ThreadPoolBuilder::new().num_threads(k).build().unwrap();
    let whole = threads(2).install(|| bits(&net, &x, &seeds));
    let again = threads(1).install(|| bits(&net, &x, &seeds));
    assert_eq!(whole, again, "{}: one thread against two", case.name);
    let order: Vec<u32> = (0..n).map(|i| (i * 7 + 3) % n).rev().collect();
    let mixed = bits(&net, &take(&x, &order).unwrap(), &take(&seeds, &order).unwrap());
    for (at, &i) in order.iter().enumerate() {
        assert_eq!(mixed[at], whole[i as usize], "{}: row {i} at place {at}", case.name);
    }
    for &i in alone {
        let one = bits(&net, &take(&x, &[i]).unwrap(), &take(&seeds, &[i]).unwrap());
        assert_eq!(one[0], whole[i as usize], "{}: row {i} alone", case.name);
    }
}

#[test]
fn every_op_gives_a_row_the_same_bits_wherever_it_stands() {
    for case in cases::all() {
        check(&case, 5, &[0, 1, 2, 3, 4]);
    }
}

#[test]
fn every_place_in_a_block_of_rows_gives_the_same_bits() {
    // Copies of one row at 37 places: two whole blocks of a dense layer and a part.
    for case in
        cases::all().iter().filter(|c| c.name.contains("linear") || c.name.contains("matmul") || c.name.contains("net"))
    {
        let net = Reference::new(case.net.clone(), DType::F32).unwrap();
        let (x, copies) = (case.input(1), vec![0u32; 37]);
        let mut dims = vec![1];
        dims.extend(case.net.output_row());
        let seed = normals(5, 6, &dims);
        let all = bits(&net, &take(&x, &copies).unwrap(), &take(&seed, &copies).unwrap());
        let one = bits(&net, &x, &seed);
        all.iter().enumerate().for_each(|(i, row)| assert_eq!(*row, one[0], "{} at place {i}", case.name));
    }
}

#[test]
fn a_wide_net_gives_a_row_the_same_bits_in_a_large_batch() {
    let net = std::sync::Arc::new(cases::mnist(28, [16, 32], 128, 5));
    check(&Case { name: "digit net".into(), net, positive: false }, 41, &[0, 15, 16, 40]);
}
