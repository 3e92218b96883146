//! Memory at the size of real sets; not part of a usual run: `cargo test -p robust-benchmarks --test data scale -- --ignored
//! --nocapture --test-threads 1`, each alone for a figure of its own.

use super::files::*;
use super::load;
use robust_benchmarks::data::open;
use robust_benchmarks::subset::{Pick, choose};
use std::io::Write;

#[test]
#[ignore = "a sparse file of 3 GB"]
fn a_thousand_of_a_million_images_take_the_memory_of_a_thousand() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    let header = "{'descr': '|u1', 'fortran_order': False, 'shape': (1000000, 3, 32, 32)}";
    sparse(path("x.npy").as_ref(), &npy_header(header), 1_000_000 * 3072, &[]);
    write(path("y.npy").as_ref(), &npy(&ndarray::Array1::from_elem(1_000_000, 6u8)));
    let data = open(&format!("npy:{},{}", path("x.npy"), path("y.npy"))).unwrap();
    let ids = choose(data.card().samples, &Pick::Limit(1000)).unwrap();
    let (rows, labels, failed) = load(&*data, &ids, &image(3, 32, 32));
    assert_eq!((rows.len(), labels.len(), failed.len()), (1000, 1000, 0));
    let peak = peak_memory().unwrap_or(0);
    println!("peak {} MB for 1,000 of 1,000,000 images of 3x32x32", peak >> 20);
    assert!(peak < 100 << 20, "{peak}");
}

#[test]
#[ignore = "writes 200 MB"]
fn an_archive_of_200_000_small_images_is_indexed_in_little_memory() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.tar");
    let mut file = std::io::BufWriter::new(std::fs::File::create(&path).unwrap());
    let bytes = png(1, 4, 4);
    let mut header = tar::Header::new_gnu();
    for i in 0..200_000 {
        header.set_path(format!("set/{:04}/{i:08}.png", i % 1000)).unwrap();
        header.set_size(bytes.len() as u64);
        header.set_entry_type(tar::EntryType::Regular);
        header.set_cksum();
        file.write_all(header.as_bytes()).unwrap();
        file.write_all(&bytes).unwrap();
        file.write_all(&vec![0; bytes.len().next_multiple_of(512) - bytes.len()]).unwrap();
    }
    file.write_all(&[0; 1024]).unwrap();
    file.into_inner().unwrap().sync_all().unwrap();
    let before = resident();
    let data = open(path.to_str().unwrap()).unwrap();
    let index = resident().saturating_sub(before);
    let ids = choose(data.card().samples, &Pick::Limit(1000)).unwrap();
    assert_eq!(load(&*data, &ids, &image(3, 4, 4)).0.len(), 1000);
    println!("index {} MB, peak {} MB for 200,000 entries", index >> 20, peak_memory().unwrap_or(0) >> 20);
    assert!(index < 100 << 20, "{index}");
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:").map(str::to_string));
    line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()).unwrap_or(0) * 1024
}
