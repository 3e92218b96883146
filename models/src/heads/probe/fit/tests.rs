//! Heads on embeddings whose best answer is known.

use super::*;
use crate::heads::head::tests::scored;
use candle_core::{DType, Device, Tensor};
use robust_core::{Draw, RowKey, stream};

/// Three clouds around unit directions, `spread` wide, in `d` entries.
fn clouds(n: usize, d: usize, spread: f64, id: u64) -> Features {
    let draw = Draw { seed: 3, stream: stream("probe/tests"), turn: id, rows: &[] };
    let mut noise = draw.noise(&RowKey::of(id));
    let labels: Vec<u32> = (0..n as u32).map(|i| i % 3).collect();
    let at = |l: u32, j: usize| if j == l as usize { 2. } else { 0.3 };
    let values: Vec<f64> = labels
        .iter()
        .flat_map(|&l| (0..d).map(|j| at(l, j) + spread * f64::from(noise.normal())).collect::<Vec<_>>())
        .collect();
    Features::new(&Tensor::from_vec(values, (n, d), &Device::Cpu).unwrap(), labels).unwrap()
}

fn all_methods() -> [Method; 6] {
    [
        Method::Linear { l2: None },
        Method::Linear { l2: Some(1e-3) },
        Method::Sgd { epochs: 20, rate: 0.1, l2: 1e-4, seed: 0 },
        Method::Prototypes,
        Method::Bayes,
        Method::Knn { k: 5, temperature: 0.07 },
    ]
}

#[test]
fn every_head_tells_clouds_apart_that_it_has_not_seen() {
    let (train, test) = (clouds(120, 8, 0.3, 0), clouds(90, 8, 0.3, 1));
    for method in all_methods() {
        let fit = fit(&train, &method).unwrap();
        let right = accuracy(&fit.head, &test).unwrap();
        assert!(right >= 0.95, "{method:?}: {right}");
    }
}

#[test]
fn a_head_is_the_same_after_a_trip_to_disk_and_a_cut_file_is_refused() {
    let (train, test) = (clouds(60, 6, 0.5, 2), clouds(12, 6, 0.5, 3));
    let folder = tempfile::tempdir().unwrap();
    for method in all_methods() {
        let head = fit(&train, &method).unwrap().head;
        let plain = head.scores(&test.x).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
        let path = folder.path().join("head.safetensors");
        head.write(&path).unwrap();
        {
            let laid = scored(&Head::read(&path).unwrap(), &test.x);
            let gap = plain.iter().zip(&laid).map(|(a, b)| (a - b).abs()).fold(0., f64::max);
            assert!(gap <= 1e-9 * plain.iter().fold(1., |a: f64, b| a.max(b.abs())), "{method:?}: {gap:e}");
        }
        let bytes = std::fs::read(&path).unwrap();
        for cut in (0..bytes.len()).step_by(37) {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            assert_eq!(Head::read(&path).unwrap_err().kind, robust_core::Kind::Load);
        }
    }
}

#[test]
fn the_linear_probe_stands_where_the_slope_is_zero() {
    // Two samples at -1 and 1 in one dimension: by symmetry b = 0 and w = w1 - w0 solves sigmoid(-w) = l2 w / 2.
    let x = Tensor::from_vec(vec![-1f64, 1.], (2, 1), &Device::Cpu).unwrap();
    let f = Features::new(&x, vec![0, 1]).unwrap();
    let Head::Linear { weight, bias, .. } = fit(&f, &Method::Linear { l2: Some(0.1) }).unwrap().head else { panic!() };
    let w = weight.flatten_all().unwrap().to_vec1::<f64>().unwrap();
    let gap = w[1] - w[0];
    let residual = 1. / (1. + gap.exp()) - 0.1 * gap / 2.;
    assert!(residual.abs() < 1e-5, "w = {gap}, residual {residual:e}");
    assert!(bias.to_vec1::<f64>().unwrap().iter().all(|b| b.abs() < 1e-5));
}

#[test]
fn neighbours_vote_with_their_cosines() {
    // Bank: two of class 0 at 60 degrees, one of class 1 at 0 degrees from the query. exp(1/T) against 2 exp(0.5/T).
    let (c, s) = (0.5, 0.75f64.sqrt());
    let x = Tensor::from_vec(vec![c, s, c, -s, 1., 0.], (3, 2), &Device::Cpu).unwrap();
    let f = Features::new(&x, vec![0, 0, 1]).unwrap();
    let query = Tensor::from_vec(vec![3f64, 0.], (1, 2), &Device::Cpu).unwrap();
    for (k, temperature) in [(3, 0.5), (3, 2.), (1, 2.)] {
        let head = fit(&f, &Method::Knn { k, temperature }).unwrap().head;
        let z = scored(&head, &query);
        let faint = 1e-6;
        let behind = 2. * (-0.5 / temperature).exp();
        let expected = [(behind * (faint + if k == 3 { 1. } else { 0. })).ln(), (1f64 + faint).ln()];
        assert!(z.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-9), "{z:?} {expected:?}");
    }
}

#[test]
fn a_nearly_constant_entry_does_not_cancel_in_single_precision() {
    // One entry is 5 and differs by 1e-4: divided by its deviation, it would be 50,000 less 50,000.
    let (n, d) = (90, 4);
    let plain = clouds(n, d, 0.7, 6).x.to_vec2::<f64>().unwrap();
    let labels: Vec<u32> = (0..n as u32).map(|i| i % 3).collect();
    let rows = plain.iter().flat_map(|r| [r[0], r[1], r[2], 5. + 2.4e-4 * r[3]]).map(|v| f64::from(v as f32));
    let x = Tensor::from_vec(rows.collect::<Vec<f64>>(), (n, d), &Device::Cpu).unwrap();
    let f = Features::new(&x, labels).unwrap();
    for method in
        [Method::Linear { l2: Some(1e-3) }, Method::Sgd { epochs: 5, rate: 0.1, l2: 1e-4, seed: 0 }, Method::Bayes]
    {
        let head = fit(&f, &method).unwrap().head;
        let mut net = robust_engine::Builder::new();
        let input = net.input("embedding", &[d]).unwrap();
        let out = head.lay(&mut net, input).unwrap();
        let net = std::sync::Arc::new(net.finish(out).unwrap());
        let by = |dtype: DType| {
            let reference = robust_engine::Reference::new(net.clone(), dtype).unwrap();
            let scores = reference.forward(&x.to_dtype(dtype).unwrap()).unwrap().to_dtype(DType::F64).unwrap();
            scores.flatten_all().unwrap().to_vec1::<f64>().unwrap()
        };
        let (single, double) = (by(DType::F32), by(DType::F64));
        let gap = single.iter().zip(&double).map(|(a, b)| (a - b).abs() / (1. + b.abs())).fold(0., f64::max);
        assert!(gap < 1e-5, "{method:?}: {gap:e}");
    }
}

#[test]
fn a_fifth_of_each_class_is_held_out_also_where_labels_go_in_a_cycle() {
    let x = Tensor::zeros((50, 1), DType::F64, &Device::Cpu).unwrap();
    let f = Features::new(&x, (0..50).map(|i| i % 5).collect()).unwrap();
    let (rest, held) = f.split();
    let of = |at: &[usize]| (0..5).map(|c| at.iter().filter(|&&i| i % 5 == c).count()).collect::<Vec<_>>();
    assert_eq!((of(&rest), of(&held)), (vec![8; 5], vec![2; 5]));
}

#[test]
fn naive_bayes_is_the_density_of_its_gaussians() {
    let f = clouds(30, 3, 0.7, 4);
    let Head::Quadratic { .. } = fit(&f, &Method::Bayes).unwrap().head else { panic!() };
    let head = fit(&f, &Method::Bayes).unwrap().head;
    let z = head.scores(&f.x).unwrap().to_vec2::<f64>().unwrap();
    let x = f.x.to_vec2::<f64>().unwrap();
    let of =
        |l: u32| x.iter().zip(&f.labels).filter(move |(_, k)| **k == l).map(|(x, _)| x.clone()).collect::<Vec<_>>();
    let all_var = |j: usize| {
        let m = x.iter().map(|r| r[j]).sum::<f64>() / 30.;
        x.iter().map(|r| (r[j] - m).powi(2)).sum::<f64>() / 30.
    };
    let floor = SMOOTHING * (0..3).map(all_var).fold(0., f64::max);
    for l in 0..3 {
        let own = of(l);
        let mut expected = (own.len() as f64 / 30.).ln();
        for j in 0..3 {
            let m = own.iter().map(|r| r[j]).sum::<f64>() / own.len() as f64;
            let v = own.iter().map(|r| (r[j] - m).powi(2)).sum::<f64>() / own.len() as f64 + floor;
            expected -= 0.5 * (v.ln() + (x[0][j] - m).powi(2) / v);
        }
        assert!((z[0][l as usize] - expected).abs() < 1e-9, "{} {expected}", z[0][l as usize]);
    }
}

#[test]
fn what_cannot_be_fitted_is_said() {
    let f = clouds(30, 3, 0.1, 5);
    let gap = Features { labels: f.labels.iter().map(|l| l * 2).collect(), ..f.clone() };
    let absent = fit(&gap, &Method::Prototypes).unwrap_err().message;
    assert_eq!(absent, "no training sample is of classes 1, 3");
    let votes = fit(&gap, &Method::Knn { k: 40, temperature: 0.1 }).unwrap();
    let said = [
        "only 30 neighbours are there to vote, 40 were asked for",
        "no training sample is of classes 1, 3: the head never answers so",
    ];
    assert_eq!(votes.notes, said);
    assert!(accuracy(&votes.head, &gap).unwrap() > 0.9);
    assert_eq!(f.absent(5).as_deref(), Some("no training sample is of classes 3, 4"));
    assert_eq!(f.absent(3), None);
    for bad in [
        Method::Knn { k: 0, temperature: 0.1 },
        Method::Knn { k: 1, temperature: 0. },
        Method::Linear { l2: Some(-1.) },
    ] {
        assert_eq!(fit(&f, &bad).unwrap_err().kind, robust_core::Kind::Usage);
    }
    assert!(fit(&f.few(1).unwrap(), &Method::Linear { l2: None }).unwrap_err().hint.unwrap().contains("--l2"));
    assert_eq!(f.few(2).unwrap().labels.len(), 6);
}
