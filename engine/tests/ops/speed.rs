//! How long the digit net takes; run with `--ignored --nocapture`.

use crate::cases::{mnist, normals};
use candle_core::DType;
use robust_engine::*;
use std::sync::Arc;

#[test]
#[ignore = "prints times, checks nothing"]
#[expect(clippy::disallowed_methods, reason = "a stopwatch")]
fn the_digit_net_at_batch_256_on_two_threads() {
    let net = Arc::new(mnist(28, [16, 32], 128, 5));
    let r = Reference::new(net.clone(), DType::F32).unwrap();
    let x = normals(1, 1, &[256, 1, 28, 28]);
    let seed = normals(1, 2, &[256, 10]);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    let median = |f: &dyn Fn()| {
        let mut times: Vec<f64> = (0..15)
            .map(|_| {
                let start = std::time::Instant::now();
                f();
                start.elapsed().as_secs_f64() * 1e3
            })
            .collect();
        times.sort_by(f64::total_cmp);
        (times[0], times[7])
    };
    pool.install(|| {
        let forward = median(&|| {
            r.forward(&x).unwrap();
        });
        let both = median(&|| {
            r.trace(&x, &[]).unwrap().pull(&[(net.output(), seed.clone())]).unwrap();
        });
        println!(
            "forward: min {:.1} median {:.1} ms; with gradient: min {:.1} median {:.1} ms",
            forward.0, forward.1, both.0, both.1
        );
    });
}
